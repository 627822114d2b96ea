--- Files that lie about sizes: whatever number stands anywhere in a file, its reader asks for no more memory than the file
-- can justify. The specs of the formats have the bad files that must be refused with a reason, by tables; here every byte of
-- a few good files is written over, in a process that may have only so much memory.

local ffi = require "ffi"
local files = require "spec.support.files"
local paths = require "aijit.tree"
local aio, image, json = require "aijit.io", require "aijit.image", require "aijit.json"
local yaml = require "aijit.yaml"

pcall(ffi.cdef, "struct fuzz_limit_ { unsigned long soft, hard; };")
ffi.cdef [[
int setrlimit(int what, const struct fuzz_limit_ *limit);
int getpid(void);
]]
pcall(ffi.cdef, "int fork(void); int waitpid(int pid, int *status, int options); void _exit(int status);")

local ROOM = 16 * 2 ^ 20                -- of addresses, for files of some hundred bytes; what is deflated may be large when it is whole
local RLIMIT_AS = 9

local function decoded(format) return function(bytes) return aio.decode(bytes, {format = format}) end end
local p = files.pickle
local f4 = files.npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }", ("x"):rep(24))
local good = {
  safetensors = {decoded "safetensors", files.safetensors('{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', ("x"):rep(8))},
  npy = {decoded "npy", f4},
  npz = {decoded "npz", files.zip {{"a.npy", f4}, {"b.npy", f4, method = 8}}},
  pt = {decoded "pt", files.pt(p.whole("}" .. p.text "a" .. p.tensor(p.storage("FloatStorage", "0", 6), 0, {2, 3}, {3, 1}) .. "s"), {["0"] = ("x"):rep(24)})},
  idx = {decoded "idx", files.idx(8, {2, 3}, "abcdef")},
  ["idx, gzipped"] = {decoded "idx", files.gzip(files.idx(8, {2, 3}, "abcdef"))},
  tar = {function(bytes)
    local blob = require("aijit.bindings.file").blob(bytes)
    require("aijit.bindings.format").tar_read(blob)
  end, files.tar {{"a.txt", "hello"}, {"b", ("x"):rep(20)}}},
  csv = {decoded "csv", "a,b\n1,x\n2.5,\"y \"\"z\"\"\"\n"},
  png = {image.decode, files.png(2, 2, 8, 0, "\0\10\20\0\30\40")},
  jpeg = {image.decode, files.get(paths.root .. "/spec/vectors/jpeg/grey.jpg")},
  json = {json.decode, '{"a":[1,2.5,-3e7,true,"\\u00e9\\n"],"b":{"c":[[],{}]}}'},
  yaml = {yaml.decode, 'a: &x [1, 2.5, true]\nb: {c: *x, d: e}\nf: "g"\n'},
}

-- What is written over each place: sizes near the ends of whole numbers of 2, 4 and 8 bytes, either end first; and digits.
local over = {"\255\255\255\255", "\255\255\255\127", "\127\255\255\255", "\0\0\0\64", "\64\0\0\0", "\255\255", "\255\255\255\255\255\255\255\127",
  "\127\255\255\255\255\255\255\255", "\0\0\0\16\0\0\0\0", "99999999999", "4294967295", "1e18", "\255", "\0", "\128", "["}

local function vm_size()
  return tonumber(files.get("/proc/self/status"):match "VmSize:%s*(%d+)") * 1024
end

-- Every file that one write makes, and every one that is cut.
local function try_all(decode, bytes)
  local refused, read = 0, 0
  local function try(data)
    local ok, message = pcall(decode, data)
    if ok then read = read + 1
    elseif type(message) ~= "string" or message:find("out of memory", 1, true) or message:find("not enough memory", 1, true) then
      error(("%q: %s"):format(data:sub(1, 200), tostring(message)), 0)
    else refused = refused + 1 end
  end
  for at = 1, #bytes do
    for _, what in ipairs(over) do try(bytes:sub(1, at - 1) .. what .. bytes:sub(at + #what)) end
    try(bytes:sub(1, at - 1))
    collectgarbage "step"
  end
  return refused, read
end

describe("a file that lies about its sizes takes no memory that it cannot justify:", function()
  local sanitized = paths.lib:find "/asan/" or paths.lib:find "/tsan/"
  for format, case in pairs(good) do
    it(format, function()
      case[1](case[2])                                   -- good as it stands
      if sanitized then try_all(case[1], case[2]) return end          -- a sanitizer's shadow takes more than any limit
      local pid = ffi.C.fork()
      if pid == 0 then
        local ok, message = pcall(function()
          collectgarbage()
          local limit = ffi.new("struct fuzz_limit_", vm_size() + ROOM, vm_size() + ROOM)
          assert(ffi.C.setrlimit(RLIMIT_AS, limit) == 0)
          local refused = try_all(case[1], case[2])
          assert(refused > 0)
        end)
        if not ok then io.stderr:write(format, ": ", tostring(message), "\n") end
        ffi.C._exit(ok and 0 or 1)
      end
      local status = ffi.new "int[1]"
      ffi.C.waitpid(pid, status, 0)
      assert.are.equal(0, status[0])
    end)
  end
end)
