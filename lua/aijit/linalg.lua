--- Linear algebra under the names of torch.linalg: `ai.linalg.solve(A, B)`. The last two dimensions are matrices, the ones
-- before them batches; all have gradients. Most are ops of the table (`ai.f.solve`, `x:solve(b)`) under one more name.

local f = require("aijit.bindings.op").functions
local Tensor = require "aijit.bindings.tensor"
local lib = require "aijit.bindings.lib"
local construct = require "aijit.bindings.construct"

local linalg = {}

-- name = the op's
local ops = {inv = "inverse", matmul = "matmul"}
for name in ([[det slogdet cholesky qr svd svdvals eigh eigvalsh pinv lstsq matrix_rank matrix_power matrix_exp cond cholesky_solve
  cholesky_inverse solve_triangular lu lu_factor lu_solve diagonal cross vecdot]]):gmatch "%S+" do ops[name] = name end

local function order_text(ord)
  if type(ord) ~= "number" then return ord end
  return ord == math.huge and "inf" or ord == -math.huge and "-inf" or ("%d"):format(ord)
end

--- Powers of the elements of vectors x, a row each, from 0 up to N - 1.
---@param x aijit.Tensor  (..., elements)
---@param N integer|{N: integer}?  as many as there are elements
---@return aijit.Tensor
function linalg.vander(x, N)
  if type(N) == "table" then N = N.N end
  return Tensor.vander(x, N, true)
end

--- The first columns of a product of reflections I - tau v v^T, as LAPACK's QR leaves them: v is a column of A from its diagonal
-- down, 1 on the diagonal (LAPACK Users' Guide, "Representation of Orthogonal or Unitary Matrices").
---@param A aijit.Tensor    (..., m, n), m at least n
---@param tau aijit.Tensor  (..., k), k at most n
---@return aijit.Tensor  (..., m, n)
function linalg.householder_product(A, tau)
  for i, v in ipairs {A or false, tau or false} do
    if not lib.is_tensor(v) then lib.raise(("householder_product: argument %d is %s, where a tensor is wanted"):format(i, lib.describe(v))) end
  end
  local dims = Tensor.dim(A)
  if dims < 2 then lib.raise(("householder_product: a tensor of %d dimensions, where matrices are wanted"):format(dims)) end
  local m, n, k = Tensor.size(A, -2), Tensor.size(A, -1), Tensor.size(tau, -1)
  if m < n or k > n then
    lib.raise(("householder_product: matrices of %d x %d and %d factors; rows must be at least columns, and these at least the factors"):format(m, n, k))
  end
  local Q = f.expand(construct.eye(m, n, {dtype = A.dtype, device = A.device}), Tensor.size(A))
  local below = f.tril(A, -1)
  for i = k, 1, -1 do
    local v = f.narrow(below, -1, i, 1)
    v = f.add(v, f.narrow(construct.eye(m, n, {dtype = A.dtype, device = A.device}), -1, i, 1))
    local t = f.unsqueeze(f.unsqueeze(f.select(tau, -1, i), -1), -1)
    Q = f.sub(Q, f.mul(f.matmul(v, f.matmul(f.transpose(v, -2, -1), Q)), t))
  end
  return Q
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
---@param hermitian boolean?  A is symmetric: its eigenvalues' sizes are counted
---@return aijit.Tensor rank  i64 (...)
function linalg.matrix_rank(A, atol, rtol, hermitian)
  if type(atol) == "table" and not lib.is_tensor(atol) then atol, rtol, hermitian = atol.atol, atol.rtol, atol.hermitian end
  if not hermitian and not lib.is_tensor(atol) and not lib.is_tensor(rtol) then return f.matrix_rank(A, atol, rtol) end
  local s = hermitian and f.abs(f.eigvalsh(A)) or f.svdvals(A)
  if Tensor.size(s, -1) == 0 then return Tensor.to(f.sum(s, -1), "i64") end
  local usual = EPSILON[A.dtype] * math.max(Tensor.size(A, -1), Tensor.size(A, -2))
  if rtol == nil then rtol = lib.is_tensor(atol) and Tensor.where(f.gt(atol, 0), 0, usual) or (atol or 0) > 0 and 0 or usual end
  local limit = f.mul(f.amax(s, -1), rtol)
  if lib.is_tensor(atol) then limit = f.maximum(limit, atol)
  elseif atol ~= nil then limit = f.clamp_min(limit, atol) end
  return f.sum(f.gt(s, f.unsqueeze(limit, -1)), -1)
end

--- The pseudo-inverse of A: singular values up to max(atol, rtol times the largest) count as 0. With hermitian, of the symmetric
-- matrices whose lower triangles A has, by way of eigenvalues: A = V L V^T.
---@param A aijit.Tensor  (..., rows, columns)
---@param atol number|table?  or a table of what follows by name
---@param rtol number?  max(rows, columns) times the epsilon of the dtype by default, 0 with an atol
---@param hermitian boolean?
---@return aijit.Tensor  (..., columns, rows)
function linalg.pinv(A, atol, rtol, hermitian)
  if type(atol) == "table" then atol, rtol, hermitian = atol.atol, atol.rtol, atol.hermitian end
  if not hermitian then return f.pinv(A, atol, rtol) end
  local L, V = f.eigh(A)
  if Tensor.numel(L) == 0 then return f.transpose(A, -2, -1) end
  if rtol == nil then rtol = (atol or 0) > 0 and 0 or EPSILON[A.dtype] * Tensor.size(A, -1) end
  local size = f.abs(Tensor.detach(L))
  local limit = f.clamp_min(f.mul(f.amax(size, -1, true), rtol), atol or 0)
  local above = f.gt(size, limit)
  local inverse = Tensor.where(above, f.reciprocal(Tensor.where(above, L, 1)), 0)
  return f.matmul(f.mul(V, f.unsqueeze(inverse, -2)), f.transpose(V, -2, -1))
end

--- The inverse B of A as a map from its last dimensions to its first `ind`, whose sizes have the same product:
-- tensordot(B, X, ind) solves tensordot(A, Y, dim - ind) = X.
---@param A aijit.Tensor
---@param ind integer?  2 by default
---@return aijit.Tensor
function linalg.tensorinv(A, ind)
  if type(ind) == "table" then ind = ind.ind end
  ind = ind or 2
  local sizes, first, last, out = Tensor.size(A), 1, 1, {}
  if type(ind) ~= "number" or ind < 1 or ind > #sizes then lib.raise(("tensorinv: ind is %s, and must be from 1 to %d"):format(tostring(ind), #sizes)) end
  for d = ind + 1, #sizes do last = last * sizes[d] out[#out + 1] = sizes[d] end
  for d = 1, ind do first = first * sizes[d] out[#out + 1] = sizes[d] end
  if first ~= last then lib.raise(("tensorinv: the first %d sizes multiply to %d and the others to %d; these must agree"):format(ind, first, last)) end
  return Tensor.reshape(f.inverse(Tensor.reshape(A, {first, last})), out)
end

--- X in tensordot(A, X, X's dimensions) = B: the first dimensions of A have B's sizes, the others X's.
---@param A aijit.Tensor
---@param B aijit.Tensor
---@param dims integer[]?  of A, moved to its end first
---@return aijit.Tensor
function linalg.tensorsolve(A, B, dims)
  if type(dims) == "table" and dims[1] == nil then dims = dims.dims end
  if dims then
    local ends = {}
    for i = 1, #dims do ends[i] = i - #dims - 1 end
    A = f.movedim(A, dims, ends)
  end
  local sizes, out, n = Tensor.size(A), {}, Tensor.numel(B)
  for d = Tensor.dim(B) + 1, #sizes do out[#out + 1] = sizes[d] end
  if Tensor.numel(A) ~= n * n then
    lib.raise(("tensorsolve: a first tensor of %d elements and a second of %d; the square of this must be the other"):format(Tensor.numel(A), n))
  end
  return Tensor.reshape(f.solve(Tensor.reshape(A, {n, n}), Tensor.reshape(B, {n})), out)
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
