-- What Argo CD makes of an object: `lua5.1 tests/packaging/health.lua CHECK < OBJECT.json` prints status and message.
package.path = arg[0]:gsub("[^/]*$", "") .. "?.lua"
local json = require("json")

local check = arg[1]
obj = json(io.read("*a"))
-- Argo CD's sandbox has no more than this.
local chunk = assert(loadfile(check))
if setfenv then
  setfenv(chunk, { obj = obj, ipairs = ipairs, pairs = pairs, string = string, table = table, tostring = tostring })
end
local health = chunk()
local known = { Healthy = true, Progressing = true, Degraded = true, Suspended = true }
assert(known[health.status], "no status of Argo CD: " .. tostring(health.status))
print(health.status .. "\t" .. health.message)
