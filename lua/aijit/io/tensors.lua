--- Tables of tensors in files: safetensors, in one file or in shards with an index, and npz.
--
-- Saving a nested table joins its keys with dots, {encoder = {w}} giving "encoder.1"; loading gives the flat table of
-- name -> tensor, the form that load_state_dict takes.

local raise = require("aijit.bindings.lib").raise
local file = require "aijit.bindings.file"
local format = require "aijit.bindings.format"

local tensors = {}

local MAX_DEPTH = 100

local function fail(message, ...) raise(message:format(...)) end

-- ---- what is to be saved

--- {a = {t1, b = t2}} -> {"a.1", "a.b"}, {t1, t2}, in the order of the names
local function flatten(tree, kind)
  if format.is_tensor(tree) then fail("save: .%s keeps tensors by name: pass {name = tensor}, or save as .npy", kind) end
  if type(tree) ~= "table" then fail("save: needs a table of tensors, got a %s", type(tree)) end
  if getmetatable(tree) and type(tree.state_dict) == "function" then
    fail "save: pass model:state_dict(), not the model itself"
  end
  local names, places = {}, {}
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
        places[name] = value
        names[#names + 1] = name
      elseif type(value) == "table" then
        walk(value, name .. ".", depth + 1)
      else
        fail("save: %s is a %s, not a tensor: keep such values in metadata, as strings, or in a .json file", name, type(value))
      end
    end
  end
  walk(tree, "", 1)
  table.sort(names)
  local list = {}
  for i, name in ipairs(names) do list[i] = places[name] end
  return names, list
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

-- ---- shards: model-00001-of-00003.safetensors and so on, and model.safetensors.index.json, which says what is where

local INDEX = ".index.json"
local units = {[""] = 1, B = 1, KB = 1e3, MB = 1e6, GB = 1e9, TB = 1e12, KIB = 2 ^ 10, MIB = 2 ^ 20, GIB = 2 ^ 30, TIB = 2 ^ 40}

local function bytes_of(size)
  local n = size
  if type(size) == "string" then
    local digits, unit = size:upper():match "^%s*([%d.]+)%s*(%a*)%s*$"
    n = tonumber(digits) and units[unit] and tonumber(digits) * units[unit]
  end
  if type(n) ~= "number" or not (n >= 1) then
    fail("save: max_shard_size must be a number of bytes, or such as \"500MB\" or \"5GB\", got %s", tostring(size))
  end
  return n
end

--- The tensors in their order, as lists of places, each within `most` bytes unless it is one tensor alone.
local function split(list, most)
  local shards, total, used = {{}}, 0, 0
  for i, t in ipairs(list) do
    local n = format.bytes(t)
    if used + n > most and used > 0 then
      shards[#shards + 1] = {}
      used = 0
    end
    local shard = shards[#shards]
    shard[#shard + 1] = i
    used, total = used + n, total + n
  end
  return shards, total
end

--- What an index says, by name, and the names of the shards. A shard lies beside its index: a path that leads elsewhere is refused.
local function read_index(path)
  local index = require("aijit.json").decode(file.read(path))
  local map = type(index) == "table" and index.weight_map
  if type(map) ~= "table" then fail("load: %s: there is no weight_map in it", path) end
  local of = {}
  for name, shard in pairs(map) do
    if type(shard) ~= "string" or shard:find("[/\\%z]") or shard:sub(1, 1) == "." then
      fail("load: %s: weight_map: %q is no plain file name", path, tostring(shard))
    end
    of[shard] = of[shard] or {}
    of[shard][name] = true
  end
  return of
end

local function exists(path)
  local f = io.open(path, "rb")
  if f then f:close() end
  return f ~= nil
end

--- The shards that an earlier save of this path left.
local function old_shards(path)
  if not exists(path .. INDEX) then return {} end
  local ok, of = pcall(read_index, path .. INDEX)
  return ok and of or {}
end

local function write_shards(names, list, shards, total, path, keys, values)
  local folder, base = path:match "^(.*/)([^/]*)$"
  folder, base = folder or "", (base or path):gsub("%.safetensors$", "")
  local old, map, new = old_shards(path), {}, {}
  for i, places in ipairs(shards) do
    local shard = ("%s-%05d-of-%05d.safetensors"):format(base, i, #shards)
    local part_names, part = {}, {}
    for k, place in ipairs(places) do
      part_names[k], part[k] = names[place], list[place]
      map[names[place]] = shard
    end
    format.safetensors_write(folder .. shard, part_names, part, keys, values)
    new[shard] = true
  end
  local json = require "aijit.json"
  local index = {metadata = {total_size = total}, weight_map = json.object(map)}
  file.write(path .. INDEX, json.encode(index, {pretty = true}) .. "\n")
  -- The one file that this path named before would be taken for the newer.
  os.remove(path)
  for shard in pairs(old) do if not new[shard] then os.remove(folder .. shard) end end
end

local function forget_shards(path)
  local old = old_shards(path)
  if next(old) == nil then return end
  local folder = path:match "^.*/" or ""
  os.remove(path .. INDEX)
  for shard in pairs(old) do os.remove(folder .. shard) end
end

---@param value table
---@param path string?
---@param opts aijit.SaveOptions
---@return string? bytes
function tensors.write_safetensors(value, path, opts)
  local names, list = flatten(value, "safetensors")
  local keys, values = texts(opts.metadata)
  if opts.max_shard_size == nil then return format.safetensors_write(path, names, list, keys, values) end
  local shards, total = split(list, bytes_of(opts.max_shard_size))
  if not path then fail "encode: shards are files: max_shard_size is for ai.save" end
  if #shards > 1 then return write_shards(names, list, shards, total, path, keys, values) end
  format.safetensors_write(path, names, list, keys, values)
  forget_shards(path)
end

---@param value table
---@param path string?
---@param opts aijit.SaveOptions
---@return string? bytes
function tensors.write_npz(value, path, opts)
  local names, list = flatten(value, "npz")
  return format.npz_write(path, names, list, opts.compress == true)
end

-- ---- loading

local function wanted(only)
  if only == nil or type(only) == "function" then return only end
  if type(only) ~= "string" then fail "load: only must be a function or a pattern" end
  return function(name) return name:find(only) ~= nil end
end
tensors.wanted = wanted

local function moved(found, device)
  if device then for name, t in pairs(found) do found[name] = t:to(device) end end
  return found
end

---@param blob ffi.cdata*
---@param opts aijit.LoadOptions
---@return table<string, aijit.Tensor> tensors
---@return table<string, string> metadata
function tensors.read_safetensors(blob, opts)
  local found, metadata = format.safetensors_read(blob, wanted(opts.only))
  return moved(found, opts.device), metadata
end

---@param blob ffi.cdata*
---@param opts aijit.LoadOptions
---@return table<string, aijit.Tensor> tensors
function tensors.read_npz(blob, opts)
  return moved(format.npz_read(blob, opts.max_bytes, wanted(opts.only)), opts.device)
end

--- The index that stands for `path`: itself, or beside a .safetensors file that there is not. nil: none.
---@param path string
---@return string?
function tensors.index_of(path)
  local lower = path:lower()
  if lower:match "%.safetensors%.index%.json$" then return path end
  if lower:match "%.safetensors$" and not exists(path) and exists(path .. INDEX) then return path .. INDEX end
end

--- The tensors of all shards of an index.
---@param path string
---@param opts aijit.LoadOptions
---@return table<string, aijit.Tensor> tensors
---@return table<string, string> metadata
function tensors.read_shards(path, opts)
  local folder = path:match "^.*/" or ""
  local want, all = wanted(opts.only), {}
  for shard, names in pairs(read_index(path)) do
    local function want_here(name) return names[name] and (not want or want(name)) end
    local blob = file.open(folder .. shard, opts.mmap)
    local found = tensors.read_safetensors(blob, {device = opts.device, only = want_here})
    file.close(blob)
    for name in pairs(names) do
      if not found[name] and (not want or want(name)) then
        fail("load: %s has no tensor %q, which %s promises", shard, name, path)
      end
      all[name] = found[name]
    end
  end
  return all, {}
end

return tensors
