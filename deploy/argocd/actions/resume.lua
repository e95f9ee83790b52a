-- What is due is done.
obj.spec.suspend = false
return obj
