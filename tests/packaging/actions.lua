-- What Argo CD's actions do to an object: `lua5.1 tests/packaging/actions.lua FOLDER < OBJECT.json` prints the names of those
-- that are enabled, in alphabetical order, after it has tried each.
package.path = arg[0]:gsub("[^/]*$", "") .. "?.lua"
local json = require("json")

local folder, text = arg[1], io.read("*a")
-- Argo CD's sandbox has no more than this. Of `os` it has the clock.
local function run(name, obj)
  local chunk = assert(loadfile(folder .. "/" .. name .. ".lua"))
  local function safe(module)
    assert(module == "os", "Argo CD has no module " .. module)
    return { date = os.date, time = os.time }
  end
  if setfenv then
    setfenv(chunk, { obj = obj, ipairs = ipairs, pairs = pairs, string = string, table = table, tostring = tostring, require = safe })
  end
  return chunk()
end

-- The paths at which two values differ, and what is there in the second.
local function changes(before, after, path, found)
  if type(before) == "table" or type(after) == "table" then
    local names = {}
    for name in pairs(before or {}) do names[name] = true end
    for name in pairs(after or {}) do names[name] = true end
    for name in pairs(names) do
      changes((before or {})[name], (after or {})[name], path .. "." .. name, found)
    end
  elseif before ~= after then
    found[#found + 1] = path .. "=" .. tostring(after)
  end
  return found
end

local expected = {
  ["rotate"] = "^%.metadata%.annotations%.datafa%.st/rotate=%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%dZ$",
  ["revoke-now"] = "^%.metadata%.annotations%.datafa%.st/revoke%-now=%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%dZ$",
  ["suspend"] = "^%.spec%.suspend=true$",
  ["resume"] = "^%.spec%.suspend=false$",
}
local enabled = {}
for name, action in pairs(run("discovery", json(text))) do
  assert(expected[name], "no such action is tested: " .. name)
  assert(type(action.displayName) == "string" and type(action.iconClass) == "string", name .. " has no name or icon")
  if not action.disabled then
    local changed = table.concat(changes(json(text), run(name, json(text)), "", {}), " ")
    assert(changed:find(expected[name]), name .. " changes " .. changed)
    enabled[#enabled + 1] = name
  end
  expected[name] = nil
end
assert(next(expected) == nil, "an action is missing")
table.sort(enabled)
print(table.concat(enabled, " "))
