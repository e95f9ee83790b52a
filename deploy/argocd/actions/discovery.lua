-- What Argo CD offers for a DataFastAccessToken and a DataFastWebsiteKey. An action that would change nothing now is disabled.
local status = obj.status or {}
local ready = {}
for _, condition in ipairs(status.conditions or {}) do
  if condition.type == "Ready" then
    ready = condition
  end
end
local deleted = obj.metadata.deletionTimestamp ~= nil
local suspended = obj.spec.suspend == true
-- What was revoked because nobody used it gets a key again just by that.
local ended_unused = ready.reason == "Unused" and not deleted and not suspended
-- What has none gets its first key anyway. What has expired, or is not allowed, gets no other.
local renewable = (status.tokenId or status.keyId) ~= nil
  and ready.reason ~= "Expired" and ready.reason ~= "NotAllowed"
  and not deleted and not suspended

return {
  ["rotate"] = {
    displayName = "Rotate",
    iconClass = "fa fa-fw fa-sync",
    disabled = not (renewable or ended_unused) or ready.reason == "Rotating",
  },
  ["revoke-now"] = {
    displayName = "Revoke now",
    iconClass = "fa fa-fw fa-fire",
    disabled = not renewable,
  },
  ["suspend"] = {
    displayName = "Suspend",
    iconClass = "fa fa-fw fa-pause",
    disabled = deleted or suspended,
  },
  ["resume"] = {
    displayName = "Resume",
    iconClass = "fa fa-fw fa-play",
    disabled = deleted or not suspended,
  },
}
