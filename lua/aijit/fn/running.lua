--- Which functions of aijit.fn are running, for errors: looked up on Lua's stack when one is raised, and so free until then.

local lib = require "aijit.bindings.lib"

local running = {}

-- function -> its name, or what says it from the level of its call.
local names = setmetatable({}, {__mode = "k"})

--- The tensors among the parameters of a running function: "x (2, 8)"; those after its last name without one.
local function tensors_at(level)
  local list = {}
  local function add(sign)
    for i = 1, 8 do
      local name, value = debug.getlocal(level + 2, sign * i)
      if not name then break end
      local is_own = name:sub(1, 1) ~= "("               -- what the compiler keeps has names in brackets
      if (is_own or sign < 0) and lib.is_tensor(value) and value:is_live() then
        list[#list + 1] = (is_own and name .. " " or "") .. "(" .. table.concat(value.shape, ", ") .. ")"
      end
    end
  end
  add(1)
  add(-1)
  return table.concat(list, ", ")
end

--- The flexible functions that are running, outermost first, with the shapes of their tensors: lines for an error, or "".
---@return string
function running.describe()
  local rows, width = {}, 0
  for level = 2, 200 do
    local info = debug.getinfo(level, "f")
    if not info then break end
    local name = names[info.func]
    if name and #rows < 12 then
      local text = type(name) == "function" and name(level + 1) or name
      table.insert(rows, 1, {text, tensors_at(level)})
      width = math.max(width, #text)
    end
  end
  if #rows == 0 then return "" end
  local lines = {"\n  in the functions, outermost first:"}
  for i, row in ipairs(rows) do
    lines[i + 1] = ("\n    %s%s"):format(row[1], row[2] ~= "" and (" "):rep(width - #row[1]) .. "  " .. row[2] or "")
  end
  return table.concat(lines)
end

--- Says of a function what stands for it in errors: a name, or a function of its level on the stack.
---@generic T
---@param f function
---@param name T
---@return T name
function running.name(f, name)
  names[f] = name
  return name
end

return running
