--- `ai.save` and `ai.load`: tensors and settings in files, by the file's extension.
--
--     .safetensors   a table of tensors      .npy    one tensor
--     .json          a plain table           .png    a picture, u8 (H, W, C)
--     idx files (train-images-idx3-ubyte.gz and the like) can be loaded
--
-- Saving a nested table joins its keys with dots, {encoder = {w}} giving "encoder.1"; loading gives the flat table of
-- name -> tensor, the form that load_state_dict takes. A file is replaced in one step: after a failure, a kill or a
-- power loss at any moment it is the old one or the new one, whole. Loaded tensors use the file's bytes in place, and
-- writing to them leaves the file as it is.

local raise = require("aijit.bindings.lib").raise
local file = require "aijit.bindings.file"
local format = require "aijit.bindings.format"

local M = {}

local MAX_DEPTH = 100

local function fail(message, ...) raise(message:format(...)) end

local function extension(path)
  local name = path:lower():match("[^/]*$")
  if name:match("idx%d%-ubyte") or name:match("%.idx%.gz$") then return "idx" end
  return name:match("%.(%w+)$")
end

local saved_as = {safetensors = true, npy = true, json = true, png = true}
local loaded_as = {safetensors = true, npy = true, json = true, png = true, idx = true}

-- ---- saving

--- {a = {t1, b = t2}} -> {"a.1", "a.b"}, {t1, t2}
local function flatten(tree)
  local names, tensors, places = {}, {}, {}
  local function walk(node, prefix, depth)
    if depth > MAX_DEPTH then fail("save: nested deeper than %d tables: does a table contain itself?", MAX_DEPTH) end
    for key, value in pairs(node) do
      if type(key) ~= "string" and type(key) ~= "number" then
        fail("save: a key of %s is a %s: names are strings or numbers", prefix == "" and "the table" or prefix, type(key))
      end
      local name = prefix .. tostring(key)
      if format.is_tensor(value) then
        if name:find("\0", 1, true) then fail "save: a name has a zero byte in it" end
        if places[name] then fail("save: two tensors would be named %q", name) end
        places[name] = true
        names[#names + 1], tensors[#tensors + 1] = name, value
      elseif type(value) == "table" then
        walk(value, name .. ".", depth + 1)
      else
        fail("save: %s is a %s, not a tensor: keep such values in metadata, as strings, or in a .json file", name, type(value))
      end
    end
  end
  walk(tree, "", 1)
  return names, tensors
end

local function texts(metadata)
  local keys, values = {}, {}
  for key in pairs(metadata or {}) do
    if type(key) ~= "string" then fail "save: the keys of metadata must be strings" end
    keys[#keys + 1] = key
  end
  table.sort(keys)
  for i, key in ipairs(keys) do
    local value = metadata[key]
    if type(value) ~= "string" then
      fail("save: metadata.%s is a %s: only strings are kept (json.encode makes one)", key, type(value))
    end
    if (key .. value):find("\0", 1, true) then fail "save: metadata has a zero byte in it" end
    values[i] = value
  end
  return keys, values
end

local writers = {}

function writers.safetensors(value, path, opts)
  if format.is_tensor(value) then fail "save: .safetensors keeps tensors by name: pass {name = tensor}, or save as .npy" end
  if type(value) ~= "table" then fail("save: needs a table of tensors, got a %s", type(value)) end
  if getmetatable(value) and type(value.state_dict) == "function" then
    fail "save: pass model:state_dict(), not the model itself"
  end
  local names, tensors = flatten(value)
  return format.safetensors_write(path, names, tensors, texts(opts.metadata))
end

function writers.npy(value, path)
  if not format.is_tensor(value) then fail("save: .npy keeps one tensor, got a %s", type(value)) end
  return format.npy_write(path, value)
end

function writers.json(value, path, opts)
  local how = {pretty = opts.pretty ~= false, special = opts.special, utf8 = opts.utf8}
  local text = require("aijit.json").encode(value, how) .. "\n"
  if not path then return text end
  file.write(path, text)
end

function writers.png(value, path, opts)
  local image = require "aijit.image"
  if not path then return image.encode(value, opts) end
  image.write(value, path, opts)
end

---@class aijit.SaveOptions
---@field metadata? table<string, string>                 kept in a .safetensors file beside the tensors
---@field format? "safetensors"|"npy"|"json"|"png"        instead of the extension's
---@field layout? "hwc"|"chw"                             of a picture

--- Saves a table of tensors, a tensor, or a plain table, as the extension says.
---@param value any
---@param path string
---@param opts? aijit.SaveOptions
function M.save(value, path, opts)
  if type(path) ~= "string" then fail("save: the path must be a string, got %s", type(path)) end
  opts = opts or {}
  local kind = opts.format or extension(path)
  if not saved_as[kind] then fail("save: %s: the name must end in .safetensors, .npy, .json or .png", path) end
  writers[kind](value, path, opts)
end

--- The bytes that `ai.save` would write, as a string; `format` says of which kind.
---@param value any
---@param opts aijit.SaveOptions
---@return string
function M.encode(value, opts)
  if type(opts) ~= "table" or not saved_as[opts.format] then fail "encode: format must be safetensors, npy, json or png" end
  return writers[opts.format](value, nil, opts)
end

-- ---- loading

local function by_magic(blob, path)
  local head = file.text(blob, 16)
  if head:sub(1, 6) == "\147NUMPY" then return "npy" end
  if head:sub(1, 4) == "\137PNG" then return "png" end
  if head:sub(9, 9) == "{" then return "safetensors" end
  if head:match("^%z%z[\8-\14][%z\1-\8]") then return "idx" end
  if head:match("^%s*[{%[]") then return "json" end
  local hint = ""
  if head:sub(1, 4) == "PK\3\4" then hint = ": it is a zip (.pt or .npz): convert it to .safetensors"
  elseif head:sub(1, 1) == "\128" then hint = ": it is a pickle, which runs code when it is read: convert it to .safetensors" end
  fail("load: %s: neither its name nor its first bytes tell the format%s", path, hint)
end

local function wanted(only)
  if only == nil or type(only) == "function" then return only end
  if type(only) ~= "string" then fail "load: only must be a function or a pattern" end
  return function(name) return name:find(only) ~= nil end
end

local readers = {}

function readers.safetensors(blob, opts)
  local tensors, metadata = format.safetensors_read(blob, wanted(opts.only))
  if opts.device then for name, t in pairs(tensors) do tensors[name] = t:to(opts.device) end end
  return tensors, metadata
end

local function moved(t, opts) return opts.device and t:to(opts.device) or t end
function readers.npy(blob, opts) return moved(format.npy_read(blob), opts) end
function readers.idx(blob, opts) return moved(format.idx_read(blob), opts) end

function readers.json(blob, opts) return require("aijit.json").decode(file.text(blob), opts) end

local function read(blob, path, opts)
  local kind = opts.format or extension(path)
  if not loaded_as[kind] then kind = by_magic(blob, path) end
  if kind == "png" then
    file.close(blob)
    return moved(require("aijit.image").read(path, opts), opts)
  end
  local first, second = readers[kind](blob, opts)
  file.close(blob)
  return first, second
end

--- Shards: "model.safetensors.index.json" says which file each tensor is in.
local function read_shards(path, opts)
  local index = require("aijit.json").decode(file.read(path))
  local map = type(index) == "table" and index.weight_map
  if type(map) ~= "table" then fail("load: %s: has no weight_map", path) end
  local folder, of, tensors = path:match("^(.*/)") or "", {}, {}
  for name, shard in pairs(map) do
    -- A shard lies beside its index: a path that leads elsewhere is not followed.
    if type(shard) ~= "string" or shard:find("[/\\%z]") or shard:sub(1, 1) == "." then
      fail("load: %s: weight_map: %q is no plain file name", path, tostring(shard))
    end
    of[shard] = of[shard] or {}
    of[shard][name] = true
  end
  local want = wanted(opts.only)
  for shard, names in pairs(of) do
    local found = readers.safetensors(file.open(folder .. shard, opts.mmap), {
      device = opts.device, only = function(name) return names[name] and (not want or want(name)) end,
    })
    for name in pairs(names) do
      if not found[name] and (not want or want(name)) then
        fail("load: %s has no tensor %q, which %s promises", shard, name, path)
      end
      tensors[name] = found[name]
    end
  end
  return tensors, {}
end

---@class aijit.LoadOptions
---@field device? string|integer                               where the tensors are to be
---@field mmap? boolean                                        false: copy the file's bytes instead of mapping them
---@field only? string|fun(name: string): boolean              which tensors of a .safetensors file: a pattern or a test
---@field format? "safetensors"|"npy"|"json"|"png"|"idx"       instead of the extension's
---@field layout? "hwc"|"chw"                                  of a picture
---@field channels? 1|3|4                                      of a picture

--- Loads what a file holds: .safetensors gives a table of name -> tensor and the metadata; .npy, .png and idx a tensor;
-- .json a table; model.safetensors.index.json the tensors of all its shards.
---@param path string
---@param opts? aijit.LoadOptions
---@return any value
---@return table<string, string>? metadata
function M.load(path, opts)
  if type(path) ~= "string" then fail("load: the path must be a string, got %s", type(path)) end
  opts = opts or {}
  if path:lower():match("%.safetensors%.index%.json$") and not opts.format then return read_shards(path, opts) end
  return read(file.open(path, opts.mmap), path, opts)
end

--- As `load`, of a string. `format` may be left out where the first bytes tell.
---@param bytes string
---@param opts? aijit.LoadOptions
---@return any value
---@return table<string, string>? metadata
function M.decode(bytes, opts)
  if type(bytes) ~= "string" then fail("decode: the bytes must be a string, got %s", type(bytes)) end
  opts = opts or {}
  local blob = file.blob(bytes)
  local kind = opts.format or by_magic(blob, "(string)")
  if kind == "png" then return moved(require("aijit.image").decode(bytes, opts), opts) end
  return readers[kind](blob, opts)
end

M.download = require("aijit.io.file").download

return M
