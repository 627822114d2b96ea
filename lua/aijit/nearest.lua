--- "Did you mean ...?": the names closest to one that was not found.

local nearest = {}

--- The least number of letters to put in, take out, replace or exchange with a neighbour, to come from `a` to `b`.
---@param a string
---@param b string
---@return integer
function nearest.distance(a, b)
  local before, last, now = {}, {}, {}
  for j = 0, #b do last[j] = j end
  for i = 1, #a do
    now[0] = i
    for j = 1, #b do
      local same = a:byte(i) == b:byte(j)
      local d = math.min(last[j] + 1, now[j - 1] + 1, last[j - 1] + (same and 0 or 1))
      if i > 1 and j > 1 and a:byte(i) == b:byte(j - 1) and a:byte(i - 1) == b:byte(j) then
        d = math.min(d, before[j - 2] + 1)
      end
      now[j] = d
    end
    before, last, now = last, now, before
  end
  return last[#b]
end

--- Up to three of `names` that `name` may have been meant for, closest first.
---@param name string
---@param names string[]
---@return string[]
function nearest.find(name, names)
  local wanted, found = tostring(name):lower(), {}
  for _, candidate in ipairs(names) do
    local text = candidate:lower()
    local d = nearest.distance(wanted, text)
    local part = #wanted >= 2 and (text:find(wanted, 1, true) or (#text >= 2 and wanted:find(text, 1, true)))
    if d <= math.max(1, math.floor(math.max(#wanted, #text) / 3)) or part then
      found[#found + 1] = {candidate, d}
    end
  end
  table.sort(found, function(x, y)
    if x[2] ~= y[2] then return x[2] < y[2] end
    return x[1] < y[1]
  end)
  local best = {}
  for i = 1, math.min(3, #found) do best[i] = found[i][1] end
  return best
end

--- A sentence for the end of an error: "did you mean 'size'?", or the names there are, or nothing.
---@param name string
---@param names string[]
---@return string
function nearest.hint(name, names)
  local best = nearest.find(name, names)
  if #best > 0 then return "did you mean '" .. table.concat(best, "' or '") .. "'?" end
  if #names == 0 then return "there are none" end
  if #names <= 30 then
    local all = {}
    for i, candidate in ipairs(names) do all[i] = candidate end
    table.sort(all)
    return "there is " .. table.concat(all, ", ")
  end
  return "no name is like it"
end

--- Makes an error of a field that is not there but is like one that is: `nn.Liner`. Others are nil, as ever.
---@generic T: table
---@param t T a module's table, without a metatable
---@param who string its name, for the error
---@return T t
function nearest.guard(t, who)
  return setmetatable(t, {__index = function(_, name)
    if type(name) ~= "string" then return nil end
    local names = {}
    for key in next, t do
      if type(key) == "string" and nearest.distance(name:lower(), key:lower()) <= math.max(1, math.floor(#name / 3)) then names[#names + 1] = key end
    end
    local near = nearest.find(name, names)
    if #near > 0 then
      require("aijit.bindings.lib").raise(("%s has no %s; did you mean %s?"):format(who, name, table.concat(near, " or ")))
    end
  end})
end

return nearest
