-- Another key, with the overlap of the spec.
local os = require("os")
if obj.metadata.annotations == nil then
  obj.metadata.annotations = {}
end
obj.metadata.annotations["datafa.st/rotate"] = os.date("!%Y-%m-%dT%XZ")
return obj
