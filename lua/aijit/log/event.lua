--- The bytes of TensorBoard event files: protocol buffers, CRC-32C, and the frame around each record.
--
-- record = length as u64, masked CRC of the length as u32, data, masked CRC of the data as u32; all little-endian.
-- masked(c) = rotate_right(c, 15) + 0xa282ead8. The messages are those of tensorflow/core/util/event.proto.

local bit = require "bit"

local crc32c = require("aijit.io.file").crc32c

local event = {}

local bor, rshift, lshift = bit.bor, bit.rshift, bit.lshift

--- A number in `bytes` bytes, the lowest first.
---@param value number whole, from 0
---@param bytes integer
---@return string
local function little(value, bytes)
  local parts = {}
  for i = 1, bytes do
    parts[i] = string.char(value % 256)
    value = math.floor(value / 256)
  end
  return table.concat(parts)
end

event.little = little

local function masked_crc(text)
  local c = crc32c(text)
  local rotated = bor(rshift(c, 15), lshift(c, 17))
  return (rotated % 2 ^ 32 + 0xa282ead8) % 2 ^ 32
end

--- A record of an event file.
---@param data string
---@return string
function event.frame(data)
  local length = little(#data, 8)
  return length .. little(masked_crc(length), 4) .. data .. little(masked_crc(data), 4)
end

--- IEEE 754 bits of a number, as a little-endian text.
---@param value number
---@param mantissa integer bits of the fraction: 52 or 23
---@param exponent integer bits of the exponent: 11 or 8
local function ieee(value, mantissa, exponent)
  local bytes, bias = (1 + exponent + mantissa) / 8, 2 ^ (exponent - 1) - 1
  local sign = (value < 0 or 1 / value < 0) and 1 or 0
  local e, m
  if value ~= value then
    sign, e, m = 0, 2 * bias + 1, 2 ^ (mantissa - 1)
  elseif value == math.huge or value == -math.huge then
    e, m = 2 * bias + 1, 0
  elseif value == 0 then
    e, m = 0, 0
  else
    local fraction, power = math.frexp(math.abs(value))       -- 0.5 <= fraction < 1
    e = power - 1 + bias
    if e <= 0 then                                            -- subnormal
      m, e = fraction * 2 ^ (mantissa + e), 0
    else
      m = (fraction * 2 - 1) * 2 ^ mantissa
    end
    local whole = math.floor(m)
    local rest = m - whole
    if rest > 0.5 or rest == 0.5 and whole % 2 == 1 then whole = whole + 1 end
    m = whole
    if m == 2 ^ mantissa then e, m = e + 1, 0 end
    if e >= 2 * bias + 1 then e, m = 2 * bias + 1, 0 end      -- too large: infinity
  end
  -- sign, exponent and mantissa side by side, lowest bytes first; a double cannot hold all 64 bits at once.
  local low_bytes = math.floor(mantissa / 8)
  local low = m % 2 ^ (8 * low_bytes)
  local high = math.floor(m / 2 ^ (8 * low_bytes)) + e * 2 ^ (mantissa - 8 * low_bytes)
    + sign * 2 ^ (mantissa - 8 * low_bytes + exponent)
  return little(low, low_bytes) .. little(high, bytes - low_bytes)
end

--- The four bytes of an IEEE 754 single, little-endian.
function event.float(value) return ieee(value, 23, 8) end

--- The eight bytes of an IEEE 754 double, little-endian.
function event.double(value) return ieee(value, 52, 11) end

local function varint(value)
  local parts = {}
  while value >= 128 do
    parts[#parts + 1] = string.char(value % 128 + 128)
    value = math.floor(value / 128)
  end
  parts[#parts + 1] = string.char(value)
  return table.concat(parts)
end

-- Fields by wire type: 0 a varint, 1 eight bytes, 2 a length and so many bytes, 5 four bytes.
local function whole(number, value) return varint(number * 8) .. varint(value) end
local function bytes(number, text) return varint(number * 8 + 2) .. varint(#text) .. text end
local function float(number, value) return varint(number * 8 + 5) .. event.float(value) end
local function double(number, value) return varint(number * 8 + 1) .. event.double(value) end

--- An Event message.
---@param time number seconds since 1970
---@param step integer
---@param what string an encoded field: `event.version()` or `event.summary(...)`
---@return string
function event.message(time, step, what) return double(1, time) .. whole(2, step) .. what end

--- What stands in the first event of a file.
function event.version() return bytes(3, "brain.Event:2") end

--- A summary of values made by `event.scalar`, `event.text`, `event.image` and the others.
---@param values string[]
---@return string
function event.summary(values)
  local parts = {}
  for i, value in ipairs(values) do parts[i] = bytes(1, value) end
  return bytes(5, table.concat(parts))
end

local function plugin(name, content)
  return bytes(9, bytes(1, bytes(1, name) .. (content and bytes(2, content) or "")))
end

---@param tag string
---@param value number written as a 32-bit float
function event.scalar(tag, value) return bytes(1, tag) .. float(2, value) end

---@param tag string
---@param text string Markdown
function event.text(tag, text)
  local string_dtype = 7
  local shape = bytes(2, bytes(2, whole(1, 1)))
  return bytes(1, tag) .. plugin("text") .. bytes(8, whole(1, string_dtype) .. shape .. bytes(8, text))
end

---@param tag string
---@param png string an encoded picture
---@param height integer
---@param width integer
---@param channels integer 1 or 3
function event.image(tag, png, height, width, channels)
  return bytes(1, tag) .. bytes(4, whole(1, height) .. whole(2, width) .. whole(3, channels) .. bytes(4, png))
end

-- A tensor: dtype by its number in tensorflow's types.proto, sizes, and the elements' bytes.
local function tensor(dtype, shape, content)
  local dims = {}
  for i, size in ipairs(shape) do dims[i] = bytes(2, whole(1, size)) end
  return bytes(8, whole(1, dtype) .. bytes(2, table.concat(dims)) .. bytes(4, content))
end

---@param tag string
---@param histogram aijit.Histogram
function event.histogram(tag, histogram)
  local edges, counts = {}, {}
  for i, edge in ipairs(histogram.edges) do edges[i], counts[i] = event.double(edge), event.double(histogram.counts[i]) end
  return bytes(1, tag) .. bytes(5, double(1, histogram.min) .. double(2, histogram.max) .. double(3, histogram.count)
    .. double(4, histogram.sum) .. double(5, histogram.sum_squares) .. bytes(6, table.concat(edges)) .. bytes(7, table.concat(counts)))
end

---@param tag string
---@param sound aijit.Sound
function event.audio(tag, sound)
  return bytes(1, tag) .. bytes(6, float(1, sound.rate) .. whole(2, sound.channels) .. whole(3, sound.frames) .. bytes(4, sound.wav)
    .. bytes(5, "audio/wav"))
end

local FLOAT, INT32, UINT8 = 1, 3, 4
local VERTEX, FACE, COLOR = 1, 2, 3          -- MeshPluginData.ContentType

--- The values of a mesh: its points, and colours and faces where it has them.
---@param tag string
---@param mesh aijit.Mesh
---@return string[]
function event.mesh(tag, mesh)
  local n, m, values = mesh.n_vertices, mesh.n_faces, {}
  local parts = {
    {VERTEX, "VERTEX", FLOAT, {1, n, 3}, mesh.vertices}, {FACE, "FACE", INT32, {1, m, 3}, mesh.faces}, {COLOR, "COLOR", UINT8, {1, n, 3}, mesh.colors},
  }
  local components = 0
  for _, part in pairs(parts) do if part[5] then components = components + 2 ^ part[1] end end
  for _, part in ipairs(parts) do
    local kind, name, dtype, shape, content = unpack(part, 1, 5)
    if content then
      local sizes = {}
      for i, size in ipairs(shape) do sizes[i] = varint(size) end
      local about = bytes(2, tag) .. whole(3, kind) .. bytes(6, table.concat(sizes)) .. whole(7, components)
      values[#values + 1] = bytes(1, ("%s_%s"):format(tag, name)) .. plugin("mesh", about) .. tensor(dtype, shape, content)
    end
  end
  return values
end

-- google.protobuf.Value
local function any(value)
  if type(value) == "number" then return double(2, value) end
  if type(value) == "boolean" then return whole(4, value and 1 or 0) end
  return bytes(3, tostring(value))
end

local hparam_types = {string = 1, boolean = 2, number = 3}
local SUCCESS, FAILURE = 1, 2

--- What the hyper-parameters of a run are, and by which numbers runs are compared.
---@param values {[1]: string, [2]: number|boolean|string}[]
---@param metrics string[] tags
---@param name string of the run's group
---@param time number
---@return string[]
function event.hparams(values, metrics, name, time)
  local infos, given = {}, {}
  for i, pair in ipairs(values) do
    infos[i] = bytes(4, bytes(1, pair[1]) .. whole(4, hparam_types[type(pair[2])] or 1))
    given[i] = bytes(1, bytes(1, pair[1]) .. bytes(2, any(pair[2])))
  end
  local shown = {}
  for i, tag in ipairs(metrics) do shown[i] = bytes(5, bytes(1, bytes(2, tag))) end
  local experiment = table.concat(infos) .. table.concat(shown)
  return {
    bytes(1, "_hparams_/experiment") .. plugin("hparams", bytes(2, experiment)),
    bytes(1, "_hparams_/session_start_info") .. plugin("hparams", bytes(3, table.concat(given) .. bytes(4, name) .. double(5, time))),
  }
end

--- That a run with hyper-parameters ended.
---@param ok boolean
---@param time number
---@return string
function event.hparams_end(ok, time)
  return bytes(1, "_hparams_/session_end_info") .. plugin("hparams", bytes(4, whole(1, ok and SUCCESS or FAILURE) .. double(2, time)))
end

--- A graph, as `aijit.log.graph` gives it, in place of a summary.
---@param nodes {name: string, op: string, inputs: string[], about: table<string, string>, shape: integer[]?}[]
---@return string
function event.graph(nodes)
  local parts = {}
  for _, node in ipairs(nodes) do
    local text = bytes(1, node.name) .. bytes(2, node.op)
    for _, input in ipairs(node.inputs) do text = text .. bytes(3, input) end
    local names = {}
    for name in pairs(node.about) do names[#names + 1] = name end
    table.sort(names)
    for _, name in ipairs(names) do text = text .. bytes(5, bytes(1, name) .. bytes(2, bytes(2, node.about[name]))) end
    if node.shape then
      local dims = {}
      for i, size in ipairs(node.shape) do dims[i] = bytes(2, whole(1, size)) end
      text = text .. bytes(5, bytes(1, "_output_shapes") .. bytes(2, bytes(1, bytes(7, table.concat(dims)))))
    end
    parts[#parts + 1] = bytes(1, text)
  end
  return bytes(4, table.concat(parts) .. bytes(4, whole(1, 22)))
end

return event
