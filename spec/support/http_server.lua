-- A small server for specs, on a free port of the loopback: luajit http_server.lua FOLDER [SECONDS]
-- Writes its port to FOLDER/port and each request, as a line of JSON, to FOLDER/requests. What it answers stands in FOLDER/answers.lua,
-- a chunk that is read again for each request: given method, path and body, it returns a status and a body. Ends by itself.

local ffi = require "ffi"
ffi.cdef [[
typedef struct { uint16_t family, port; uint32_t address; char zero[8]; } spec_address;
int socket(int domain, int type, int protocol);
int bind(int fd, const void *address, unsigned length);
int listen(int fd, int backlog);
int accept(int fd, void *address, unsigned *length);
int getsockname(int fd, void *address, unsigned *length);
int setsockopt(int fd, int level, int name, const void *value, unsigned length);
long recv(int fd, void *to, size_t size, int flags);
long send(int fd, const void *from, size_t size, int flags);
int close(int fd);
unsigned alarm(unsigned seconds);
]]
local C = ffi.C
local folder, seconds = arg[1], tonumber(arg[2] or 20)
C.alarm(seconds)

local fd = C.socket(2, 1, 0)
local address, length = ffi.new("spec_address", {2, 0, 0x0100007f}), ffi.new("unsigned[1]", 16)
assert(C.bind(fd, address, 16) == 0 and C.listen(fd, 16) == 0 and C.getsockname(fd, address, length) == 0)
local port = bit.rshift(bit.bswap(address.port), 16)
local out = assert(io.open(folder .. "/port.new", "w"))
out:write(port)
out:close()
os.rename(folder .. "/port.new", folder .. "/port")

local buffer = ffi.new "char[65536]"
local function read(client)
  local text = ""
  while true do
    local stop = text:find("\r\n\r\n", 1, true)
    if stop then
      local size = tonumber(text:lower():match "content%-length: *(%d+)" or 0)
      if text:lower():find("expect: 100-continue", 1, true) and #text == stop + 3 then C.send(client, "HTTP/1.1 100 Continue\r\n\r\n", 25, 0x4000) end
      if #text >= stop + 3 + size then return text:sub(1, stop + 1), text:sub(stop + 4, stop + 3 + size) end
    end
    local got = tonumber(C.recv(client, buffer, 65536, 0))
    if got <= 0 then return nil end
    text = text .. ffi.string(buffer, got)
  end
end

local function quote(text)
  return '"' .. text:gsub('[%c"\\\128-\255]', function(c) return ("\\u%04x"):format(c:byte()) end) .. '"'
end

while true do
  local client = C.accept(fd, nil, nil)
  local timeout = ffi.new("long[2]", 5, 0)
  C.setsockopt(client, 1, 20, timeout, 16)
  local head, body = read(client)
  if head then
    local method, path = head:match "^(%u+) (%S+)"
    local log = assert(io.open(folder .. "/requests", "a"))
    log:write(("{\"method\":%s,\"path\":%s,\"head\":%s,\"body\":%s}\n"):format(quote(method), quote(path), quote(head), quote(body)))
    log:close()
    local status, answer = assert(loadfile(folder .. "/answers.lua"))(method, path, body)
    answer = answer or ""
    local reply = ("HTTP/1.1 %d X\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s"):format(status, #answer, answer)
    C.send(client, reply, #reply, 0x4000)
  end
  C.close(client)
end
