--- Files of every format, built from strings byte by byte: good ones, and with a little care bad ones.

local files = {}

--- A whole number in so many bytes, the least first.
function files.le(n, bytes)
  local out = {}
  for i = 1, bytes do
    out[i] = string.char(n % 256)
    n = math.floor(n / 256)
  end
  return table.concat(out)
end

--- The same, the greatest first.
function files.be(n, bytes) return files.le(n, bytes):reverse() end

local le, be = files.le, files.be

-- ---- formats

--- A safetensors file; `length` instead of the header's own.
function files.safetensors(header, data, length)
  return le(length or #header, 8) .. header .. (data or "")
end

--- An .npy file of version 1, 2 or 3.
function files.npy(header, data, version)
  version = version or 1
  header = header .. (" "):rep(-(#header + 11) % 64) .. "\n"
  return "\147NUMPY" .. string.char(version, 0) .. le(#header, version == 1 and 2 or 4) .. header .. (data or "")
end

--- An idx file; `kind` is its number for the type, `sizes` a list.
function files.idx(kind, sizes, data)
  local head = {"\0\0", string.char(kind, #sizes)}
  for i, n in ipairs(sizes) do head[i + 2] = be(n, 4) end
  return table.concat(head) .. data
end

local band, bxor, rshift, bnot = bit.band, bit.bxor, bit.rshift, bit.bnot
local crc_of = {}
for i = 0, 255 do
  local c = i
  for _ = 1, 8 do c = band(c, 1) == 1 and bxor(rshift(c, 1), 0xEDB88320) or rshift(c, 1) end
  crc_of[i] = c
end

function files.crc32(s)
  local c = bnot(0)
  for i = 1, #s do c = bxor(rshift(c, 8), crc_of[band(bxor(c, s:byte(i)), 255)]) end
  return bnot(c) % 2 ^ 32
end

--- Deflate without compression: blocks of up to 65535 bytes as they are.
local function stored(data)
  local out = {}
  repeat
    local part = data:sub(1, 65535)
    data = data:sub(65536)
    out[#out + 1] = string.char(data == "" and 1 or 0) .. le(#part, 2) .. le(65535 - #part, 2) .. part
  until data == ""
  return table.concat(out)
end

function files.gzip(data)
  return "\31\139\8\0\0\0\0\0\0\3" .. stored(data) .. le(files.crc32(data), 4) .. le(#data % 2 ^ 32, 4)
end

function files.png_chunk(name, data) return be(#data, 4) .. name .. data .. be(files.crc32(name .. data), 4) end

--- A PNG; `raw` holds the rows, each after its filter byte. `extra` chunks come before the data.
function files.png(width, height, depth, kind, raw, extra)
  local a, b = 1, 0
  for i = 1, #raw do
    a = (a + raw:byte(i)) % 65521
    b = (b + a) % 65521
  end
  local header = be(width, 4) .. be(height, 4) .. string.char(depth, kind, 0, 0, 0)
  return "\137PNG\r\n\26\n" .. files.png_chunk("IHDR", header) .. (extra or "")
    .. files.png_chunk("IDAT", "\120\1" .. stored(raw) .. be(b, 2) .. be(a, 2)) .. files.png_chunk("IEND", "")
end

--- A zip of entries {name, data}. Fields of an entry lie about it: method (8: deflated), flags, crc, size, packed, body (its bytes as
-- they stand), here (its name in front of them), at; and `count`, `start`, `comment` of the archive.
function files.zip(entries)
  local out, central, at = {}, {}, 0
  for i, e in ipairs(entries) do
    local name, data = e[1], e[2] or ""
    local body = e.body or (e.method == 8 and stored(data) or data)
    local about = le(20, 2) .. le(e.flags or 0, 2) .. le(e.method or 0, 2) .. le(0, 2) .. le(33, 2) .. le(e.crc or files.crc32(data), 4)
      .. le(e.packed or #body, 4) .. le(e.size or #data, 4)
    local here = e.here or name
    out[i] = "PK\3\4" .. about .. le(#here, 2) .. le(0, 2) .. here .. body
    central[i] = "PK\1\2" .. le(20, 2) .. about .. le(#name, 2) .. le(0, 2) .. le(0, 2) .. le(0, 2) .. le(0, 2) .. le(0, 4) .. le(e.at or at, 4) .. name
    at = at + #out[i]
  end
  local directory, count = table.concat(central), entries.count or #entries
  return table.concat(out) .. directory .. "PK\5\6" .. le(0, 4) .. le(count, 2):rep(2) .. le(#directory, 4) .. le(entries.start or at, 4)
    .. le(#(entries.comment or ""), 2) .. (entries.comment or "")
end

local function field(text, n) return text .. ("\0"):rep(n - #text) end

--- A file in a tar archive: its header and its bytes, filled up. o: type, size (12 bytes), prefix, magic, sum.
function files.tar_entry(name, bytes, o)
  o = o or {}
  local h = field(name, 100) .. "0000644\0" .. "0000000\0" .. "0000000\0" .. (o.size or ("%011o\0"):format(#bytes)) .. "00000000000\0"
    .. (" "):rep(8) .. (o.type or "0") .. field("", 100) .. (o.magic or "ustar\00000") .. field("", 80) .. field(o.prefix or "", 155)
  h = field(h, 512)
  local sum = 0
  for i = 1, 512 do sum = sum + h:byte(i) end
  return h:sub(1, 148) .. (o.sum or ("%06o\0 "):format(sum)) .. h:sub(157) .. bytes .. ("\0"):rep(-#bytes % 512)
end

--- A tar archive of entries {name, bytes}.
function files.tar(entries)
  local out = {}
  for i, e in ipairs(entries) do out[i] = files.tar_entry(e[1], e[2], e) end
  return table.concat(out) .. ("\0"):rep(1024)
end

--- A .pt of the given pickle and storages, {["0"] = bytes}.
function files.pt(pickle, storages, more)
  local entries = {{"a/data.pkl", pickle}}
  for name, data in pairs(storages or {}) do entries[#entries + 1] = {"a/data/" .. name, data} end
  for name, data in pairs(more or {}) do entries[#entries + 1] = {"a/" .. name, data} end
  return files.zip(entries)
end

--- Pieces of a pickle: a text, a tuple, a tensor and so on.
local pickle = {}
files.pickle = pickle
function pickle.text(s) return "X" .. le(#s, 4) .. s end
function pickle.int(n) return n >= 0 and n < 256 and "K" .. string.char(n) or "\138\8" .. le(n, 8) end
function pickle.tuple(...) return "(" .. table.concat{...} .. "t" end
function pickle.global(module, name) return ("c%s\n%s\n"):format(module, name) end
function pickle.sizes(list)
  local out = {}
  for i, n in ipairs(list) do out[i] = type(n) == "number" and pickle.int(n) or n end
  return pickle.tuple(unpack(out))
end
function pickle.storage(kind, key, numel)
  return pickle.tuple(pickle.text "storage", pickle.global("torch", kind), pickle.text(key), pickle.text "cpu", pickle.int(numel)) .. "Q"
end
function pickle.tensor(storage, offset, sizes, strides)
  return pickle.global("torch._utils", "_rebuild_tensor_v2") .. pickle.tuple(storage, pickle.int(offset), pickle.sizes(sizes), pickle.sizes(strides),
    "\137", pickle.global("collections", "OrderedDict") .. ")R") .. "R"
end
function pickle.whole(value) return "\128\2" .. value .. "." end

-- ---- the file system

--- A new folder under the system's for such things; `files.remove` takes it away.
function files.folder()
  local pipe = assert(io.popen "mktemp -d")
  local path = pipe:read "*l"
  pipe:close()
  return path
end

function files.remove(folder)
  assert(folder:match "^/[^/]+/.")
  os.execute("rm -rf '" .. folder .. "'")
end

function files.put(path, data)
  local f = assert(io.open(path, "wb"))
  assert(f:write(data))
  f:close()
  return path
end

function files.get(path)
  local f = assert(io.open(path, "rb"))
  local data = f:read "*a"
  f:close()
  return data
end

--- The names in a folder, hidden ones too.
function files.list(folder)
  local names, pipe = {}, assert(io.popen("ls -A '" .. folder .. "'"))
  for name in pipe:lines() do names[#names + 1] = name end
  pipe:close()
  return names
end

--- What a shell command prints, and whether it succeeded.
function files.run(command)
  local pipe = assert(io.popen(command .. " 2>&1; echo $?"))
  local text = pipe:read "*a"
  pipe:close()
  local output, status = text:match "^(.-)(%d+)\n$"
  return output, status == "0"
end

-- ---- tensors, by their bytes

--- "F32 [2,3]" and the elements' bytes: what a tensor is, read off the safetensors file that it makes.
function files.describe(tensor)
  local bytes = require("aijit.io").encode({x = tensor}, {format = "safetensors"})
  local n = 0
  for i = 8, 1, -1 do n = n * 256 + bytes:byte(i) end
  local header = bytes:sub(9, 8 + n)
  return header:match '"dtype":"(%w+)"' .. " " .. header:match '"shape":(%b[])', bytes:sub(9 + n)
end

--- A tensor of a safetensors dtype, made of the given bytes.
function files.tensor(dtype, shape, data)
  local header = ('{"x":{"dtype":"%s","shape":[%s],"data_offsets":[0,%d]}}'):format(dtype, table.concat(shape, ","), #data)
  header = header .. (" "):rep(-#header % 8)
  return require("aijit.io").decode(files.safetensors(header, data)).x
end

files.sizes = {BOOL = 1, U8 = 1, I8 = 1, I16 = 2, I32 = 4, I64 = 8, F16 = 2, BF16 = 2, F32 = 4, F64 = 8}
files.shapes = {{}, {0}, {1}, {5}, {2, 3}, {4, 0, 2}, {1, 1, 1}, {3, 1, 5, 2}, {1, 2, 1, 2, 1, 2, 1, 3}}

--- Bytes that a bool may hold too.
function files.noise(n, dtype)
  local out = {}
  for i = 1, n do out[i] = string.char(math.random(0, dtype == "BOOL" and 1 or 255)) end
  return table.concat(out)
end

--- Calls f(dtype, shape, data, tensor) for every dtype and some shapes.
function files.each_kind(f)
  for dtype, size in pairs(files.sizes) do
    for _, shape in ipairs(files.shapes) do
      local n = size
      for _, s in ipairs(shape) do n = n * s end
      local data = files.noise(n, dtype)
      f(dtype, shape, data, files.tensor(dtype, shape, data))
    end
  end
end

--- Whether a Python with these modules is here, for comparing with other people's programs; its command.
-- AIJIT_PYTHON names one.
function files.python(modules)
  local asked = os.getenv "AIJIT_PYTHON"
  for _, python in ipairs(asked and {asked} or {"python3", "/usr/bin/python3"}) do
    local _, ok = files.run(("%s -c 'import %s'"):format(python, modules))
    if ok then return python end
  end
end

return files
