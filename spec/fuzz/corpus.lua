-- Writes a few good inputs for every target, from which the fuzzer starts: luajit corpus.lua FOLDER
local dir = assert(arg[1])

local function le(n, bytes)
  local out = {}
  for i = 1, bytes do
    out[i] = string.char(n % 256)
    n = math.floor(n / 256)
  end
  return table.concat(out)
end
local function be(n, bytes) return le(n, bytes):reverse() end

local function put(target, name, data)
  local folder = dir .. "/" .. target .. ".seeds"
  os.execute("mkdir -p '" .. folder .. "'")
  local file = assert(io.open(folder .. "/" .. name, "wb"))
  file:write(data)
  file:close()
end

local function safetensors(header, data)
  header = header .. (" "):rep(-#header % 8)
  return le(#header, 8) .. header .. data
end
put("safetensors", "empty", safetensors("{}", ""))
put("safetensors", "meta", safetensors('{"__metadata__":{"format":"pt"}}', ""))
put("safetensors", "two", safetensors(
  '{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"I8","shape":[3],"data_offsets":[8,11]}}', ("x"):rep(11)))
put("safetensors", "kinds", safetensors(
  '{"s":{"dtype":"I64","shape":[],"data_offsets":[0,8]},"z":{"dtype":"BF16","shape":[0,3],"data_offsets":[8,8]},'
  .. '"b":{"dtype":"BOOL","shape":[1,2],"data_offsets":[8,10]},"q":{"dtype":"F8_E4M3","shape":[2],"data_offsets":[10,12]}}',
  ("\0"):rep(12)))

local function npy(version, header, data)
  header = header .. (" "):rep(-(#header + 11) % 64) .. "\n"
  return "\147NUMPY" .. string.char(version, 0) .. le(#header, version == 1 and 2 or 4) .. header .. data
end
put("npy", "f4", npy(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 1), }", ("x"):rep(8)))
put("npy", "big", npy(2, "{'descr': '>i8', 'fortran_order': True, 'shape': (2, 3), }", ("x"):rep(48)))
put("npy", "bool", npy(3, "{'descr': '|b1', 'fortran_order': True, 'shape': (2,), }", "\0\1"))
put("npy", "rank0", npy(1, "{\"descr\": '=f8', 'fortran_order': False, 'shape': ()}", ("x"):rep(8)))

local idx = "\0\0\8\2" .. be(2, 4) .. be(3, 4) .. "abcdef"
put("idx", "u8", idx)
put("idx", "f8", "\0\0\14\1" .. be(1, 4) .. ("x"):rep(8))
put("idx", "i2", "\0\0\11\0" .. "xx")
do   -- gzip by its own command
  local path = dir .. "/idx.seeds/zipped"
  local pipe = assert(io.popen("gzip -nc > '" .. path .. "'", "w"))
  pipe:write(idx)
  pipe:close()
end

for i, text in ipairs{'{"a":[1,2.5,-3e7,true,false,null,"\\u00e9\\n\\u0000"],"b":{}}', "[[[]]]", '"x"', "9007199254740993", "1e5", "[1,1e999]"} do
  put("json", "t" .. i, "\1" .. text)
end

-- A PNG of 2 x 2 grey pixels and one of 1 x 1 RGBA, stored without compression.
local band, bxor, rshift, bnot = bit.band, bit.bxor, bit.rshift, bit.bnot
local function crc32(s)
  local c = bnot(0)
  for i = 1, #s do
    c = bxor(c, s:byte(i))
    for _ = 1, 8 do c = band(c, 1) == 1 and bxor(rshift(c, 1), 0xEDB88320) or rshift(c, 1) end
  end
  return be(bnot(c) % 2 ^ 32, 4)
end
local function chunk(name, data) return be(#data, 4) .. name .. data .. crc32(name .. data) end
local function png(w, h, depth, type, raw)
  local a, b = 1, 0
  for i = 1, #raw do
    a = (a + raw:byte(i)) % 65521
    b = (b + a) % 65521
  end
  local z = "\120\1\1" .. le(#raw, 2) .. le(65535 - #raw, 2) .. raw .. be(b, 2) .. be(a, 2)
  return "\137PNG\r\n\26\n" .. chunk("IHDR", be(w, 4) .. be(h, 4) .. string.char(depth, type, 0, 0, 0)) .. chunk("IDAT", z) .. chunk("IEND", "")
end
put("png", "grey", "\0" .. png(2, 2, 8, 0, "\0\10\20\0\30\40"))
put("png", "rgba", "\3" .. png(1, 1, 8, 6, "\0\255\0\0\128"))
put("png", "deep", "\6" .. png(1, 1, 16, 2, "\0\1\2\3\4\5\6"))
put("png", "bits", "\1" .. png(5, 1, 1, 0, "\0\168"))
