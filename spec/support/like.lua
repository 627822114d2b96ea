--- assert.has_error_like(f, pattern): f raises a message that the pattern is found in. assert.error_matches of luassert
-- compares a message's whole first line with some versions' rules; this is string.find.

local assert = require "luassert"
local say = require "say"

local function has_error_like(_, arguments)
  local f, pattern = arguments[1], arguments[2]
  local ok, message = pcall(f)
  arguments[1], arguments[2] = ok and "(no error)" or tostring(message), pattern
  arguments.n = 2
  return not ok and tostring(message):find(pattern) ~= nil
end

say:set("assertion.has_error_like.positive", "Expected an error.\nGot:\n%s\nwanted to find:\n%s")
say:set("assertion.has_error_like.negative", "Expected no such error.\nGot:\n%s\nfound:\n%s")
assert:register("assertion", "has_error_like", has_error_like, "assertion.has_error_like.positive", "assertion.has_error_like.negative")
return has_error_like
