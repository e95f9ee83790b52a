-- For a key that has leaked: another one, and the former are revoked at once.
local os = require("os")
if obj.metadata.annotations == nil then
  obj.metadata.annotations = {}
end
obj.metadata.annotations["datafa.st/revoke-now"] = os.date("!%Y-%m-%dT%XZ")
return obj
