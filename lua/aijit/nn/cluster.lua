--- k-means: rows (n, dim) and the means of their groups, (k, dim) (Lloyd, 1982). Nothing here has gradients.

local ai = require "aijit"

local f = ai.f
local cluster = {}

--- The nearest center of each row, from 1: (n), by |c|^2 - 2 x c, which leaves out |x|^2.
---@param rows aijit.Tensor
---@param centers aijit.Tensor
---@return aijit.Tensor codes
function cluster.nearest(rows, centers)
  return f.argmin(centers:square():sum{2} - f.matmul(rows, centers:t()) * 2, 2)
end

--- How many rows each code has, (k), and their sums, (k, dim).
---@param rows aijit.Tensor
---@param codes aijit.Tensor
---@param k integer
---@return aijit.Tensor counts
---@return aijit.Tensor sums
function cluster.tally(rows, codes, k)
  local where = {dtype = rows.dtype, device = rows.device}
  local counts = ai.zeros({k}, where):index_add_(1, codes, ai.ones({rows:size(1)}, where))
  return counts, ai.zeros({k, rows:size(2)}, where):index_add_(1, codes, rows)
end

--- k rows by chance, none twice while there are enough.
---@param rows aijit.Tensor
---@param k integer
---@return aijit.Tensor
function cluster.pick(rows, k)
  local n = rows:size(1)
  return f.index_select(rows, 1, f.multinomial(ai.ones({n}, {device = rows.device}), k, n < k))
end

--- k rows by chance, each in proportion to the square of its distance from those before (Arthur and Vassilvitskii, 2007).
---@param rows aijit.Tensor
---@param k integer
---@return aijit.Tensor
function cluster.spread(rows, k)
  local centers = cluster.pick(rows, 1)
  local far = (rows - centers):square():sum{2}
  for _ = 2, k do
    local next_one
    if far:max():item() > 0 then next_one = f.index_select(rows, 1, f.multinomial(far:float(), 1))
    else next_one = cluster.pick(rows, 1) end
    centers = f.cat({centers, next_one}, 1)
    far = f.minimum(far, (rows - next_one):square():sum{2})
  end
  return centers
end

--- Centers that became the means of the rows nearest to them, so many times; one without rows stays where it is.
---@param rows aijit.Tensor
---@param centers aijit.Tensor
---@param times integer
---@return aijit.Tensor centers
---@return aijit.Tensor? counts how many rows each had the last time
function cluster.improve(rows, centers, times)
  local counts
  for _ = 1, times do
    local sums
    counts, sums = cluster.tally(rows, cluster.nearest(rows, centers), centers:size(1))
    centers = ai.Tensor.where(f.unsqueeze(counts, 2):gt(0), sums / f.unsqueeze(f.clamp_min(counts, 1), 2), centers)
  end
  return centers, counts
end

return cluster
