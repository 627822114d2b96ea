--- `ai.save` and `ai.load`: tensors, pictures, tables of numbers and settings in files, by extension and content.
--
--     .safetensors     a table of tensors; with max_shard_size in several files and an index
--     .npz  .npy       a table of tensors, one tensor
--     .pt .pth         what torch.save wrote, as tables of tensors, numbers and texts; read only, and never executed
--     .csv .tsv        a table of columns: tensors of numbers, lists of texts
--     .json .yaml .yml a plain table
--     .png .jpg .jpeg  a picture, u8 (H, W, C)
--     idx              a tensor (train-images-idx3-ubyte.gz and the like); read only
--
-- A file is replaced in one step: after a failure, a kill or a power loss at any moment it is the old one or the new one,
-- whole. Loaded tensors use the file's bytes in place where they can, and writing to them leaves the file as it is.

local raise = require("aijit.bindings.lib").raise
local file = require "aijit.bindings.file"
local format = require "aijit.bindings.format"
local tensors = require "aijit.io.tensors"

local M = {}

local function fail(message, ...) raise(message:format(...)) end

-- ---- the formats

local function moved(t, opts) return opts.device and t:to(opts.device) or t end

local function read_picture(blob, opts) return moved(require("aijit.image").from_blob(blob, opts), opts) end

local function write_picture(kind)
  return function(value, path, opts) return require("aijit.image").put(value, path, kind, opts) end
end

-- The text of a file decoded; the message of an error names the file, and the caller's line as all do.
local function decoded(module, blob, opts, path)
  local ok, value = pcall(require(module).decode, file.text(blob), opts)
  if ok then return value end
  local message = tostring(value):gsub("^[^\n]-:%d+: ", "", 1)
  raise(path and ("%s: %s"):format(path, message) or message)
end

local function read_json(blob, opts, path) return decoded("aijit.json", blob, opts, path) end

local function write_json(value, path, opts)
  local how = {pretty = opts.pretty ~= false, special = opts.special, utf8 = opts.utf8}
  local text = require("aijit.json").encode(value, how) .. "\n"
  if not path then return text end
  file.write(path, text)
end

local function read_yaml(blob, opts, path) return decoded("aijit.yaml", blob, opts, path) end

local function write_yaml(value, path)
  local text = require("aijit.yaml").encode(value)
  if not path then return text end
  file.write(path, text)
end

local function read_pt(blob, opts)
  local how = {null = require("aijit.json").null, tensor = function(t) return moved(t, opts) end, wanted = tensors.wanted(opts.only)}
  return require("aijit.bindings.pt").read(blob, opts.max_bytes, how)
end

local function write_npy(value, path)
  if not format.is_tensor(value) then fail("save: .npy keeps one tensor, got a %s", type(value)) end
  return format.npy_write(path, value)
end

--- One row a format: how its files end and begin, and the functions that read a blob and write to a path (nil: bytes).
-- The first whose beginning fits is taken where the ending says nothing.
---@type {name: string, ends: string[], begins: (fun(head: string): any)?, read: function?, write: function?}[]
local formats = {
  {name = "npy", ends = {"npy"}, begins = function(head) return head:sub(1, 6) == "\147NUMPY" end,
    read = function(blob, opts) return moved(format.npy_read(blob), opts) end, write = write_npy},
  {name = "png", ends = {"png"}, begins = function(head) return head:sub(1, 4) == "\137PNG" end,
    read = read_picture, write = write_picture "png"},
  {name = "jpeg", ends = {"jpg", "jpeg"}, begins = function(head) return head:sub(1, 3) == "\255\216\255" end,
    read = read_picture, write = write_picture "jpeg"},
  {name = "npz", ends = {"npz"}, begins = function(head) return head:sub(1, 4) == "PK\3\4" and head:match("%.npy", 31) end,
    read = tensors.read_npz, write = tensors.write_npz},
  {name = "pt", ends = {"pt", "pth"}, begins = function(head) return head:sub(1, 4) == "PK\3\4" end, read = read_pt},
  {name = "safetensors", ends = {"safetensors"}, begins = function(head) return head:sub(9, 9) == "{" end,
    read = tensors.read_safetensors, write = tensors.write_safetensors},
  {name = "idx", ends = {"idx"}, begins = function(head) return head:match "^%z%z[\8-\14][%z\1-\8]" end,
    read = function(blob, opts) return moved(format.idx_read(blob), opts) end},
  {name = "csv", ends = {"csv", "tsv"}, read = function(blob, opts) return require("aijit.io.csv").read(blob, opts) end,
    write = function(value, path, opts) return require("aijit.io.csv").write(value, path, opts) end},
  {name = "json", ends = {"json"}, begins = function(head) return head:match "^%s*[{%[]" end, read = read_json, write = write_json},
  {name = "yaml", ends = {"yaml", "yml"}, read = read_yaml, write = write_yaml},
}

local by_name, by_ending, writable = {}, {}, {}
for _, row in ipairs(formats) do
  by_name[row.name] = row
  for _, ending in ipairs(row.ends) do
    by_ending[ending] = row
    if row.write then writable[#writable + 1] = "." .. ending end
  end
end

local function ending_of(path)
  local name = path:lower():match("[^/]*$")
  if name:match("idx%d%-ubyte") or name:match("%.idx%.gz$") then return "idx" end
  return name:match("%.(%w+)$")
end

--- In a .tsv file tabs stand between the columns.
local function with_tabs(row, path, opts)
  if row.name ~= "csv" or opts.delimiter ~= nil or not path:lower():find "%.tsv$" then return opts end
  return setmetatable({delimiter = "\t"}, {__index = opts})
end

--- The row that `opts.format` names, or nil.
local function asked_for(opts, who, what)
  if opts.format == nil then return nil end
  local row = by_name[opts.format]
  if not row or not row[what] then
    local names = {}
    for _, r in ipairs(formats) do if r[what] then names[#names + 1] = r.name end end
    fail("%s: format %q is not known; there are %s", who, tostring(opts.format), table.concat(names, ", "))
  end
  return row
end

local function by_content(blob, path)
  local head = file.text(blob, 512)
  for _, row in ipairs(formats) do
    if row.begins and row.begins(head) then return row end
  end
  local hint = ""
  if head:sub(1, 1) == "\128" then hint = ": it is a pickle, which runs code when it is read: convert it to .safetensors" end
  fail("load: %s: neither its name nor its first bytes tell the format%s", path, hint)
end

-- ---- saving

---@class aijit.SaveOptions
---@field format? "safetensors"|"npz"|"npy"|"csv"|"json"|"yaml"|"png"|"jpeg"      instead of the extension's
---@field header? boolean                      of a .csv file: false leaves the names out
---@field delimiter? string                    of a .csv file; a comma, of .tsv a tab
---@field columns? string[]                    of a .csv file: which, in which order; by their names' order
---@field metadata? table<string, string>      kept in a .safetensors file beside the tensors
---@field max_shard_size? integer|string       bytes, or such as "5GB": a .safetensors file beyond it becomes several and an index
---@field compress? boolean                    an .npz file's entries are deflated
---@field layout? "hwc"|"chw"                  of a picture
---@field quality? integer                     of a JPEG, 1 to 100

--- Saves a table of tensors, a tensor, or a plain table, as the extension says.
---@param value any
---@param path string
---@param opts? aijit.SaveOptions
function M.save(value, path, opts)
  if type(path) ~= "string" then fail("save: the path must be a string, got %s", type(path)) end
  opts = opts or {}
  local row = asked_for(opts, "save", "write") or by_ending[ending_of(path) or ""]
  if not row or not row.write then fail("save: %s: the name must end in %s", path, table.concat(writable, ", ")) end
  row.write(value, path, with_tabs(row, path, opts))
end

--- The bytes that `ai.save` would write, as a string; `format` says of which kind.
---@param value any
---@param opts aijit.SaveOptions
---@return string
function M.encode(value, opts)
  if type(opts) ~= "table" or opts.format == nil then fail "encode: the option format must say which: \"npy\", \"safetensors\" and so on" end
  return asked_for(opts, "encode", "write").write(value, nil, opts)
end

-- ---- loading

---@class aijit.LoadOptions
---@field format? "safetensors"|"npz"|"npy"|"pt"|"csv"|"json"|"yaml"|"png"|"jpeg"|"idx"  instead of the extension's
---@field device? string|integer                               where the tensors are to be
---@field mmap? boolean                                        false: copy the file's bytes instead of mapping them
---@field only? string|fun(name: string): boolean              which tensors of a .safetensors, .npz or .pt file: a pattern or a test
---@field max_bytes? integer                                   how much an .npz or .pt file may hold (64 MB, or 100 times the file)
---@field header? boolean                                      of a .csv file: false if the first line is a row
---@field delimiter? string                                    of a .csv file; a comma, of .tsv a tab
---@field names? string[]                                      of a .csv file's columns, instead of the header's
---@field types? table<string|integer, string>                 of a .csv file's columns: a dtype or "string", instead of what they look like
---@field missing? string[]                                    what stands for a number that is missing; NA, N/A, NaN, nan, null, NULL, None
---@field layout? "hwc"|"chw"                                  of a picture
---@field channels? 1|3|4                                      of a picture
---@field size? integer[]                                      {height, width} to which a picture is resized

--- Loads what a file holds: .safetensors gives a table of name -> tensor and the metadata, .npz such a table; .pt what was saved,
-- and the keys of its dictionaries in their order; .npy, pictures and idx a tensor; .csv a
-- table of columns and the list of their names; .json a table. A file in shards is loaded by
-- its own name or by its index's, model.safetensors.index.json.
---@param path string
---@param opts? aijit.LoadOptions
---@return any value
---@return any more
function M.load(path, opts)
  if type(path) ~= "string" then fail("load: the path must be a string, got %s", type(path)) end
  opts = opts or {}
  local row = asked_for(opts, "load", "read")
  local index = not row and tensors.index_of(path)
  if index then return tensors.read_shards(index, opts) end
  local blob = file.open(path, opts.mmap)
  row = row or by_ending[ending_of(path) or ""] or by_content(blob, path)
  local first, second = row.read(blob, with_tabs(row, path, opts), path)
  file.close(blob)
  return first, second
end

--- As `load`, of a string. `format` may be left out where the first bytes tell.
---@param bytes string
---@param opts? aijit.LoadOptions
---@return any value
---@return any more
function M.decode(bytes, opts)
  if type(bytes) ~= "string" then fail("decode: the bytes must be a string, got %s", type(bytes)) end
  opts = opts or {}
  local blob = file.blob(bytes)
  local row = asked_for(opts, "decode", "read") or by_content(blob, "(string)")
  local first, second = row.read(blob, opts)
  file.close(blob)
  return first, second
end

M.download = require("aijit.io.file").download

return M
