--- Tensors as text: columns of even width, long ones shortened, shape, dtype and device at the end.

local lib = require "aijit.bindings.lib"
local op = require "aijit.bindings.op"
local Tensor = require "aijit.bindings.tensor"
local C = lib.C
local f = op.functions

local print_options = {threshold = 1000, edge = 3, precision = 4, width = 80}

-- What is shown of a dimension: all, or the first and last few.
local function shown(n, shorten)
  local e = print_options.edge
  if not shorten or n <= 2 * e then
    local all = {}
    for i = 1, n do all[i] = i end
    return all
  end
  local some = {}
  for i = 1, e do some[i] = i end
  some[e + 1] = false
  for i = e, 1, -1 do some[#some + 1] = n - i + 1 end
  return some
end

-- Only what is shown is copied: along each long dimension the edges alone.
local function edges(x, shorten)
  if not shorten then return x end
  for d = 1, x:dim() do
    local n, e = x:size(d), print_options.edge
    if n > 2 * e then
      local index = {}
      for i = 1, e do index[i] = i end
      for i = e, 1, -1 do index[#index + 1] = n - i + 1 end
      local parts = {f.slice(x, d, 1, e), f.slice(x, d, n - e + 1, n)}
      x = f.cat and f.cat(parts, d) or f.index_select(x, d, index)
    end
  end
  return x
end

-- How all numbers of a tensor are written, so that columns line up.
local function formatter(values, dtype)
  if dtype == "bool" then return function(v) return v and " true" or "false" end end
  local whole, largest, smallest = true, 0, math.huge
  for i = 1, #values do
    local v = values[i]
    if v == v and v ~= math.huge and v ~= -math.huge then
      local a = math.abs(v)
      if v % 1 ~= 0 then whole = false end
      if a > largest then largest = a end
      if a > 0 and a < smallest then smallest = a end
    end
  end
  local p = print_options.precision
  local spec
  local is_float = dtype:match "^b?f" ~= nil
  if whole and largest < 1e8 then spec = is_float and "%.0f." or "%.0f"
  elseif not is_float then spec = "%.0f"
  elseif largest >= 1e8 or (smallest < 1e-4 and smallest < math.huge) or largest / smallest > 1e5 then spec = "%." .. p .. "e"
  else spec = "%." .. p .. "f" end
  local width = 0
  local function text(v)
    if v ~= v then return "nan" end
    if v == math.huge then return "inf" end
    if v == -math.huge then return "-inf" end
    return spec:format(v)
  end
  for i = 1, #values do width = math.max(width, #text(values[i])) end
  return function(v) return ("%" .. width .. "s"):format(text(v)) end
end

local function flatten(v, list)
  if type(v) ~= "table" then list[#list + 1] = v return list end
  for i = 1, #v do flatten(v[i], list) end
  return list
end

local function rows_of(x, shorten)
  local rank, dtype = x:dim(), x.dtype
  local values = edges(x, shorten):totable()
  local write = formatter(flatten(values, {}), dtype)
  local lines = {}
  local function put(v, depth, indent, size)
    local picks, at = shown(size[depth], shorten), 0
    if depth == #size then
      local line, length = {}, indent
      for _, pick in ipairs(picks) do
        local piece
        if pick then at = at + 1 piece = write(v[at]) else piece = "..." end
        if length + #piece + 2 > print_options.width and #line > 0 then
          line[#line + 1] = "\n" .. (" "):rep(indent + 1)
          length = indent
        end
        line[#line + 1] = piece .. (_ < #picks and ", " or "")
        length = length + #piece + 2
      end
      return "[" .. table.concat(line):gsub("%s+\n", "\n") .. "]"
    end
    local parts = {}
    for _, pick in ipairs(picks) do
      if pick then at = at + 1 parts[#parts + 1] = put(v[at], depth + 1, indent + 1, size) else parts[#parts + 1] = "..." end
    end
    local gap = ("\n"):rep(math.max(1, #size - depth))
    return "[" .. table.concat(parts, "," .. gap .. (" "):rep(indent + 1)) .. "]"
  end
  if rank == 0 then
    lines[1] = (write(values):gsub("^%s+", ""))
  else
    lines[1] = put(values, 1, 0, x:size())
  end
  return lines[1]
end

--- The text that print shows.
---@param x aijit.Tensor
---@return string
function Tensor.to_string(x)
  if not C.aj_is_live(x) then return "[tensor that was freed when its scope ended]" end
  local mark = C.aj_scope_open()
  local before = C.aj_grad_mode(false)
  local ok, text = pcall(function()
    local shape = x:size()
    local trailer = ("[%s %s %s%s]"):format(x.dtype, #shape == 0 and "scalar" or table.concat(shape, "x"), x.device,
      x.grad_fn and " grad_fn=" .. x.grad_fn or x.requires_grad and " requires_grad" or "")
    if x:numel() == 0 or x.device == "meta" then return trailer end
    local body = rows_of(x:detach(), x:numel() > print_options.threshold)
    return body .. (#shape == 0 and " " or "\n") .. trailer
  end)
  C.aj_grad_mode(before)
  C.aj_scope_close(mark)
  if not ok then error(text, 0) end
  return text
end

--- How tensors are printed: threshold (elements from which on the middle is left out), edge, precision, width.
---@param o {threshold: integer?, edge: integer?, precision: integer?, width: integer?}
function print_options.set(o)
  for k, v in pairs(o) do
    if type(print_options[k]) ~= "number" then lib.raise(("set_print_options: unknown option %s; it takes threshold, edge, precision, width"):format(k)) end
    print_options[k] = v
  end
end

return print_options
