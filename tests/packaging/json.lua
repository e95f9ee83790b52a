-- Reads JSON, as far as Kubernetes writes it: `\u` escapes stay as they are.
local escapes = { b = "\b", f = "\f", n = "\n", r = "\r", t = "\t" }

return function(text)
  local at = 1

  local function skip(pattern)
    local _, last, match = text:find("^%s*(" .. pattern .. ")%s*", at)
    if last then at = last + 1 end
    return match
  end

  local value

  local function string()
    local start = at
    while true do
      local stop = assert(text:find('["\\]', at), "a string does not end")
      at = stop + (text:sub(stop, stop) == "\\" and 2 or 1)
      if text:sub(stop, stop) == '"' then
        local raw = text:sub(start, stop - 1)
        return (raw:gsub("\\([^u])", function(c) return escapes[c] or c end))
      end
    end
  end

  local function sequence(close, item)
    if skip(close) then return end
    repeat item() until not skip(",")
    assert(skip(close), "expected " .. close .. " at " .. at)
  end

  function value()
    local result = {}
    if skip("{") then
      sequence("}", function()
        assert(skip('"'), "expected a name at " .. at)
        local name = string()
        assert(skip(":"), "expected : at " .. at)
        result[name] = value()
      end)
    elseif skip("%[") then
      sequence("%]", function() result[#result + 1] = value() end)
    elseif skip('"') then
      return string()
    else
      local word = assert(skip("[%w%+%-%.]+"), "expected a value at " .. at)
      if word == "true" or word == "false" then return word == "true" end
      if word ~= "null" then return assert(tonumber(word), word) end
      return nil
    end
    return result
  end

  return value()
end
