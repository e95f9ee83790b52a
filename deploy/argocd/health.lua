-- Argo CD's health check of DataFastAccessTokens, DataFastWebsiteKeys and DataFastAccounts: they say alike how they are.
-- A key that works is Healthy, whatever is being done about the next one.
local function health(status, message)
  return { status = status, message = message }
end

local status = obj.status or {}
local conditions = {}
for _, condition in ipairs(status.conditions or {}) do
  conditions[condition.type] = condition
end
local ready = conditions.Ready

if obj.metadata.deletionTimestamp ~= nil then
  return health("Progressing", "Being deleted. " .. (ready and ready.message or ""))
end
-- The API server writes -1 before the operator has seen an object.
if ready == nil or status.observedGeneration ~= obj.metadata.generation then
  return health("Progressing", "Waits for the operator to reconcile it")
end

local says = ready.reason .. ": " .. ready.message
if conditions.Stalled ~= nil and conditions.Stalled.status == "True" then
  return health("Degraded", says)
end
if ready.reason == "Suspended" then
  return health("Suspended", says)
end
if ready.status == "True" then
  return health("Healthy", says)
end
-- Expired: its end was asked for, and it is still in Git.
if conditions.Reconciling == nil then
  return health("Degraded", says)
end
return health("Progressing", says)
