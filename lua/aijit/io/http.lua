--- Requests over HTTP, through libcurl. The environment's proxy settings hold.

local raise = require("aijit.bindings.lib").raise
local core = require "aijit.bindings.file"

local http = {}

---@class aijit.HttpRequest
---@field method? string                     "GET", or "POST" where there is a body
---@field headers? table<string, string>
---@field body? string
---@field timeout? number                    seconds for all of it (30)

--- One request. An answer of any status is no error; that none came is one.
---@param url string http:// or https://
---@param o? aijit.HttpRequest
---@return integer status
---@return string body at most 64 MB
function http.request(url, o)
  o = o or {}
  if type(url) ~= "string" then raise("http.request: the url must be a string, got " .. type(url)) end
  local lines = {}
  for name, value in pairs(o.headers or {}) do
    if (name .. value):find "[%z\r\n]" then raise(("http.request: the header %s has an end of line in it"):format(name)) end
    lines[#lines + 1] = name .. ": " .. value
  end
  return core.http(o.method or o.body and "POST" or "GET", url, lines, o.body, o.timeout or 30)
end

--- A text as part of a URL.
---@param text string
---@return string
function http.escape(text) return (text:gsub("[^%w%-%._~]", function(c) return ("%%%02X"):format(c:byte()) end)) end

return http
