-- Nothing is changed, neither at DataFast nor in the cluster.
obj.spec.suspend = true
return obj
