--- Linear algebra under the names of torch.linalg: `ai.linalg.solve(A, B)`. The last two dimensions are matrices, the ones
-- before them batches; all have gradients. Most are ops of the table (`ai.f.solve`, `x:solve(b)`) under one more name.

local f = require("aijit.bindings.op").functions
local Tensor = require "aijit.bindings.tensor"
local lib = require "aijit.bindings.lib"

local linalg = {}

-- name = the op's
local ops = {inv = "inverse", matmul = "matmul"}
for name in ([[det slogdet cholesky qr svd svdvals eigh eigvalsh pinv lstsq matrix_rank matrix_power matrix_exp cond cholesky_solve
  cholesky_inverse solve_triangular lu lu_factor lu_solve diagonal cross]]):gmatch "%S+" do ops[name] = name end

local function order_text(ord)
  if type(ord) ~= "number" then return ord end
  return ord == math.huge and "inf" or ord == -math.huge and "-inf" or ("%d"):format(ord)
end

--- X in A X = B, or with left = false in X A = B.
---@param A aijit.Tensor  square matrices
---@param B aijit.Tensor  a matrix, or a vector; batches are broadcast
---@param o {left: boolean}?
---@return aijit.Tensor
function linalg.solve(A, B, o)
  if o and o.left == false then return f.transpose(f.solve(f.transpose(A, -2, -1), f.transpose(B, -2, -1)), -2, -1) end
  return f.solve(A, B)
end

--- A norm of matrices: ord "fro", "nuc", 1, -1, 2, -2, math.huge or -math.huge.
---@param A aijit.Tensor
---@param ord string|number?   "fro" by default
---@param dim integer[]?       {-2, -1} by default
---@param keepdim boolean?
---@return aijit.Tensor
function linalg.matrix_norm(A, ord, dim, keepdim)
  if type(ord) == "table" then ord, dim, keepdim = ord.ord, ord.dim, ord.keepdim end
  if type(dim) == "table" and dim[1] == nil then dim, keepdim = dim.dim, dim.keepdim end
  return f.matrix_norm(A, order_text(ord), dim, keepdim)
end

--- (sum |x|^ord)^(1/ord) over dim, all elements by default.
---@param x aijit.Tensor
---@param ord number?  2 by default
---@param dim integer|integer[]?
---@param keepdim boolean?
---@return aijit.Tensor
function linalg.vector_norm(x, ord, dim, keepdim)
  if type(ord) == "table" then ord, dim, keepdim = ord.ord, ord.dim, ord.keepdim end
  return f.norm(x, ord, dim, keepdim)
end

--- matrix_norm for an ord that is text, two dims, or a matrix and an ord; else vector_norm.
---@param x aijit.Tensor
---@param ord string|number?
---@param dim integer|integer[]?
---@param keepdim boolean?
---@return aijit.Tensor
function linalg.norm(x, ord, dim, keepdim)
  if type(ord) == "table" then ord, dim, keepdim = ord.ord, ord.dim, ord.keepdim end
  local two = type(dim) == "table" and #dim == 2
  if type(ord) == "string" or (ord ~= nil and (two or dim == nil and Tensor.dim(x) == 2)) then return linalg.matrix_norm(x, ord, dim, keepdim) end
  return f.norm(x, ord, dim, keepdim)
end

local EPSILON = {f64 = 2 ^ -52, f32 = 2 ^ -23, f16 = 2 ^ -10, bf16 = 2 ^ -7}

--- How many singular values of A are above max(atol, rtol times the largest). The tolerances are numbers, or tensors with one
-- for each matrix; without them rtol is max(rows, columns) times the epsilon of the dtype.
---@param A aijit.Tensor  (..., rows, columns)
---@param atol number|aijit.Tensor|table?  or a table of what follows by name
---@param rtol number|aijit.Tensor?
---@return aijit.Tensor rank  i64 (...)
function linalg.matrix_rank(A, atol, rtol, ...)
  if type(atol) == "table" and not lib.is_tensor(atol) then
    if not lib.is_tensor(atol.atol) and not lib.is_tensor(atol.rtol) then return f.matrix_rank(A, atol, rtol, ...) end
    atol, rtol = atol.atol, atol.rtol
  end
  if not lib.is_tensor(atol) and not lib.is_tensor(rtol) then return f.matrix_rank(A, atol, rtol, ...) end
  local s = f.svdvals(A)
  if Tensor.size(s, -1) == 0 then return Tensor.to(f.sum(s, -1), "i64") end
  local usual = EPSILON[A.dtype] * math.max(Tensor.size(A, -1), Tensor.size(A, -2))
  if rtol == nil then rtol = Tensor.where(f.gt(atol, 0), 0, usual) end
  local limit = f.mul(f.amax(s, -1), rtol)
  if atol ~= nil then limit = f.maximum(limit, atol) end
  return f.sum(f.gt(s, f.unsqueeze(limit, -1)), -1)
end

--- The product of a list of matrices, in the order that costs least (Cormen and others, Introduction to Algorithms, 15.2).
-- The first and the last may be vectors.
---@param list aijit.Tensor[]
---@return aijit.Tensor
function linalg.multi_dot(list)
  local n = #list
  if n < 2 then lib.raise "multi_dot: at least two matrices" end
  local p = {}
  for i, x in ipairs(list) do
    p[i] = x:dim() == 1 and i == 1 and 1 or x:size(1)
    p[i + 1] = x:dim() == 1 and 1 or x:size(2)
  end
  local cost, cut = {}, {}
  for i = 1, n do cost[i], cut[i] = {[i] = 0}, {} end
  for length = 1, n - 1 do
    for i = 1, n - length do
      local j = i + length
      for k = i, j - 1 do
        local c = cost[i][k] + cost[k + 1][j] + p[i] * p[k + 1] * p[j + 1]
        if not cost[i][j] or c < cost[i][j] then cost[i][j], cut[i][j] = c, k end
      end
    end
  end
  local function product(i, j)
    if i == j then return list[i] end
    local k = cut[i][j]
    return f.matmul(product(i, k), product(k + 1, j))
  end
  return product(1, n)
end

return setmetatable(linalg, {__index = function(t, name)
  local fn = ops[name] and f[ops[name]]
  if fn then rawset(t, name, fn) end
  return fn
end})
