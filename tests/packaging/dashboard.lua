-- The expressions of a Grafana dashboard as a Prometheus rule file, for promtool to check: one rule each.
package.path = arg[0]:gsub("[^/]*$", "") .. "?.lua"
local dashboard = require("json")(io.read("*a"))

print("groups:\n  - name: dashboard\n    rules:")
local ids = {}
for _, panel in ipairs(dashboard.panels) do
  assert(panel.title and not ids[panel.id], "a panel needs a title and an id of its own")
  ids[panel.id] = true
  for _, target in ipairs(panel.targets or {}) do
    assert(panel.description ~= "", panel.title .. " has no description")
    local expr = target.expr:gsub("%$__rate_interval", "5m")
    print(("      - { record: 'panel:%d%s', expr: '%s' }"):format(panel.id, target.refId, expr))
  end
end
