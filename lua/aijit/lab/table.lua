--- Tables of runs: as text, aligned, as CSV, and as records for JSON.

local M = {}

local function shown(value)
  if value == nil then return "" end
  if type(value) == "number" then return value == math.floor(value) and math.abs(value) < 1e15 and ("%d"):format(value) or ("%.5g"):format(value) end
  return (tostring(value):gsub("%s+", " "))
end

--- Rows as text, a line each; numbers to the right.
---@param columns string[]
---@param rows any[][]  nil where there is nothing
---@param widest? integer of a column, in letters: 48
---@return string
function M.text(columns, rows, widest)
  local width, cells, numeric = {}, {}, {}
  for k, name in ipairs(columns) do width[k], numeric[k] = #name, true end
  for i, row in ipairs(rows) do
    cells[i] = {}
    for k = 1, #columns do
      local text = shown(row[k])
      if #text > (widest or 48) and k < #columns then text = text:sub(1, (widest or 48) - 3) .. "..." end
      cells[i][k] = text
      width[k] = math.max(width[k], #text)
      if row[k] ~= nil and type(row[k]) ~= "number" then numeric[k] = false end
    end
  end
  local function line(values)
    local out = {}
    for k = 1, #columns do out[k] = (numeric[k] and "%" or "%-") .. width[k] .. "s" end
    return (table.concat(out, "  "):format(unpack(values, 1, #columns)):gsub("%s+$", ""))
  end
  local lines = {line(columns)}
  for _, c in ipairs(cells) do lines[#lines + 1] = line(c) end
  return table.concat(lines, "\n") .. "\n"
end

--- A list in order, the best first: by the first number that `rank` gives, then the second, then the items' own `number`.
---@param list {number: integer}[]
---@param rank fun(item: any): number, number
---@return table[] another list
function M.ranked(list, rank)
  local order, place = {}, {}
  for i, item in ipairs(list) do
    order[i] = item
    place[item] = {rank(item)}
  end
  table.sort(order, function(a, b)
    local ka, kb = place[a], place[b]
    if ka[1] ~= kb[1] then return ka[1] < kb[1] end
    if ka[2] ~= kb[2] then return ka[2] < kb[2] end
    return a.number < b.number
  end)
  return order
end

local function quoted(value)
  if value == nil then return "" end
  local text = type(value) == "number" and ("%.17g"):format(value) or tostring(value)
  return text:find '[,"\n\r]' and '"' .. text:gsub('"', '""') .. '"' or text
end

---@param columns string[]
---@param rows any[][]
---@return string
function M.csv(columns, rows)
  local lines = {}
  local function add(row)
    local out = {}
    for k = 1, #columns do out[k] = quoted(row[k]) end
    lines[#lines + 1] = table.concat(out, ",")
  end
  add(columns)
  for _, row in ipairs(rows) do add(row) end
  return table.concat(lines, "\n") .. "\n"
end

--- Rows as tables by the columns' names, for JSON.
---@param columns string[]
---@param rows any[][]
---@return table[]
function M.records(columns, rows)
  local list = {}
  for i, row in ipairs(rows) do
    list[i] = {}
    for k, name in ipairs(columns) do list[i][name] = row[k] end
  end
  return list
end

return M
