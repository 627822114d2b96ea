--- Samples in tar files, in the WebDataset convention: the files of one name but for their endings are one sample's fields,
-- 0001.jpg, 0001.cls, 0001.json. They stand one after another in the archive.
--
-- Each archive's list is read once, when the dataset is made, and then any sample can be had: so shards are shuffled wholly, by any
-- number of workers, and a run is taken up anywhere. A shard must not be cut short while it is in use.

local ai = require "aijit"
local class = require "aijit.class"
local Dataset = require("aijit.data.dataset").Dataset
local file = require "aijit.bindings.file"
local format = require "aijit.bindings.format"
local option = require "aijit.data.option"

---@class aijit.TarShards: aijit.Dataset
---@field paths string[] the shards
---@field keys string[] a name for each sample
local TarShards = class("TarShards", Dataset)

--- {000..012} in a name stands for the numbers between, of as many digits; {a,b} for either.
local function expand(pattern, list)
  local before, inner, after = pattern:match "^(.-){([^{}]*)}(.*)$"
  if not before then
    list[#list + 1] = pattern
    return list
  end
  local first, last = inner:match "^(%d+)%.%.(%d+)$"
  if first then
    for n = tonumber(first), tonumber(last) do expand(("%s%0" .. #first .. "d%s"):format(before, n, after), list) end
  else
    for part in (inner .. ","):gmatch "([^,]*)," do expand(before .. part .. after, list) end
  end
  return list
end

-- The mapped archives of this Lua state, the last few that were used.
local open, opened = {}, {}
local MOST = 64

local function blob_of(path)
  local blob = open[path]
  if blob then return blob end
  blob = file.open(path)
  open[path] = blob
  opened[#opened + 1] = path
  if #opened > MOST then open[table.remove(opened, 1)] = nil end
  return blob
end

local function picture(blob, o)
  return require("aijit.image").from_blob(blob, {
    layout = "chw", channels = o.channels, size = o.size, filter = o.size and o.filter or nil,
  })
end

local function whole(blob)
  local text = file.text(blob)
  local n = tonumber(text)
  if not n or n % 1 ~= 0 then error(("%q is no class number"):format(text:sub(1, 40)), 0) end
  return ai.full({}, n + 1, {dtype = "i64"})
end

local function decoded(name)
  return function(blob) return (require("aijit.io").decode(file.text(blob), {format = name})) end
end

local function text_of(blob) return file.text(blob) end

-- By ending. Numbers of classes count from 0 in such files, and from 1 here, where they are i64 ().
local decoders = {
  jpg = picture, jpeg = picture, png = picture, cls = whole, cls2 = whole, index = whole, inx = whole, id = whole,
  txt = text_of, text = text_of, transcript = text_of, json = decoded "json", npy = decoded "npy", safetensors = decoded "safetensors",
  jsn = decoded "json",
}

local function index_shard(self, shard, path)
  local blob = file.open(path)
  local names, offsets, sizes = format.tar_read(blob)
  file.close(blob)
  local last
  for i, name in ipairs(names) do
    local folder, rest = name:match "^(.*/)([^/]*)$"
    local stem, ending = (rest or name):match "^([^.]+)%.(.+)$"
    if stem then
      local key = (folder or "") .. stem
      if key ~= last then
        last = key
        self.keys[#self.keys + 1] = key
        self.starts[#self.starts + 1] = #self.endings + 1
        self.shards[#self.shards + 1] = shard
      end
      local at = #self.endings + 1
      self.endings[at], self.offsets[at], self.sizes[at] = ending:lower(), offsets[i], sizes[i]
    end
  end
end

---@param shards string|string[] paths; "train-{000..146}.tar" stands for 147 of them
---@param o? {fields: string[], decode: boolean|table<string, fun(bytes: string): any>, size: integer|integer[], channels: integer, filter: string}
---  fields: endings of the fields that a sample gives, in this order, "jpg;png" being either (without: one table of all fields
---  by their endings, and `__key__`); decode: false leaves the bytes as they are, a table has functions of one's own by ending;
---  size, channels 3, filter "bilinear": of pictures, as in data.ImageFolder
function TarShards:__init(shards, o)
  local who = "data.TarShards"
  o = option.read(who, o, {fields = {}, decode = "[any]", size = "[any]", channels = 3, filter = ""})
  local list = {}
  for _, pattern in ipairs(type(shards) == "table" and shards or {shards}) do
    if type(pattern) ~= "string" then error(("%s: a shard's path is a %s, not a string"):format(who, type(pattern)), 3) end
    expand(pattern, list)
  end
  self.paths, self.fields, self.decode = list, o.fields, o.decode
  self.picture = {channels = o.channels or 3, size = o.size and require("aijit.data.transforms.base").pair(o.size, who), filter = o.filter or "bilinear"}
  self.keys, self.starts, self.shards, self.endings, self.offsets, self.sizes = {}, {}, {}, {}, {}, {}
  for shard, path in ipairs(list) do index_shard(self, shard, path) end
  self.starts[#self.starts + 1] = #self.endings + 1
  if #self.keys == 0 then error(("%s: there is no sample in %s"):format(who, table.concat(list, ", ", 1, math.min(3, #list))), 3) end
end

function TarShards:size() return #self.keys end

local function read(self, index, at)
  local ending, path = self.endings[at], self.paths[self.shards[index]]
  local what = ("%s: %s.%s"):format(path, self.keys[index], ending)
  local part = file.slice(blob_of(path), self.offsets[at], self.sizes[at], what)
  local last = ending:match "[^.]+$"
  local own = type(self.decode) == "table" and (self.decode[ending] or self.decode[last])
  local decode = self.decode ~= false and (decoders[ending] or decoders[last])
  local ok, value
  if own then ok, value = pcall(own, file.text(part))
  elseif decode then ok, value = pcall(decode, part, self.picture, what)
  else ok, value = true, file.text(part) end
  file.close(part)
  if ok then return value end
  local problem = tostring(value):gsub("^[^\n]-:%d+: ", "", 1)
  error(problem:find(what, 1, true) and problem or what .. ": " .. problem, 0)
end

local function find(self, index, wanted)
  for ending in wanted:gmatch "[^;]+" do
    for at = self.starts[index], self.starts[index + 1] - 1 do
      if self.endings[at] == ending:lower() then return at end
    end
  end
  local has = table.concat(self.endings, ", ", self.starts[index], self.starts[index + 1] - 1)
  error(("%s: sample '%s' has no '%s'; it has %s"):format(self.paths[self.shards[index]], self.keys[index], wanted, has), 0)
end

function TarShards:get(index)
  option.index("data.TarShards", index, #self.keys)
  if self.fields then
    local values = {}
    for k, wanted in ipairs(self.fields) do values[k] = read(self, index, find(self, index, wanted)) end
    return unpack(values, 1, #self.fields)
  end
  local sample = {__key__ = self.keys[index]}
  for at = self.starts[index], self.starts[index + 1] - 1 do sample[self.endings[at]] = read(self, index, at) end
  return sample
end

function TarShards:describe(index) return ("%s: %s"):format(self.paths[self.shards[index]], self.keys[index]) end

--- Another number for other names, places or sizes of the files within.
function TarShards:version()
  return file.crc32(table.concat(self.keys, "\n") .. table.concat(self.offsets, " ") .. table.concat(self.sizes, " "))
end

--- Writes samples into a tar file of this convention.
---@param path string
---@param samples {__key__: string, [string]: string}[] bytes by ending
function TarShards.write(path, samples)
  local parts = {}
  local function put(name, bytes)
    if #name > 100 then error(("data.TarShards.write: the name '%s' has more than 100 bytes"):format(name), 3) end
    local header = name .. ("\0"):rep(100 - #name) .. "0000644\0" .. "0000000\0" .. "0000000\0" .. ("%011o\0"):format(#bytes)
      .. "00000000000\0" .. (" "):rep(8) .. "0" .. ("\0"):rep(100) .. "ustar\00000"
    header = header .. ("\0"):rep(512 - #header)
    local sum = 0
    for i = 1, 512 do sum = sum + header:byte(i) end
    parts[#parts + 1] = header:sub(1, 148) .. ("%06o\0 "):format(sum) .. header:sub(157)
    parts[#parts + 1] = bytes
    parts[#parts + 1] = ("\0"):rep(-#bytes % 512)
  end
  for i, sample in ipairs(samples) do
    local key = sample.__key__ or ("%06d"):format(i - 1)
    local endings = {}
    for ending, bytes in pairs(sample) do
      if ending ~= "__key__" then
        if type(bytes) ~= "string" then
          error(("data.TarShards.write: sample %d: '%s' is a %s, not bytes"):format(i, tostring(ending), type(bytes)), 2)
        end
        endings[#endings + 1] = ending
      end
    end
    table.sort(endings)
    for _, ending in ipairs(endings) do put(key .. "." .. ending, sample[ending]) end
  end
  parts[#parts + 1] = ("\0"):rep(1024)
  file.write(path, table.concat(parts))
end

TarShards.expand = function(pattern) return expand(pattern, {}) end

return {TarShards = TarShards, WebDataset = TarShards}
