--- einsum against loops, and what it says of equations that cannot be.

local ai = require "aijit"

local function near(y, wanted)
  assert.are.same(wanted:size(), y:size())
  if y:numel() > 0 then assert.is_true((y - wanted):abs():max():item() < 1e-12) end
end
local function random(...) return ai.randn(...):double() end

describe("einsum", function()
  local a, b, v = random(3, 4), random(4, 5), random(4)
  it("is what its equation says", function()
    near(ai.einsum("ij,jk->ik", a, b), a:matmul(b))
    near(ai.einsum("ij,jk", a, b), a:matmul(b))
    near(ai.einsum("ij,jk->ki", {a, b}), a:matmul(b):t())
    near(ai.einsum("ij->j", a), a:sum(1))
    near(ai.einsum("ba", a), a:t())
    near(ai.einsum("i,i->", v, v), v:dot(v))
    near(ai.einsum("i,j->ij", v, v), v:outer(v))
    local s = random(3, 3)
    near(ai.einsum("ii->", s), s:diagonal():sum())
    near(ai.einsum("ii->i", s), s:diagonal())
  end)
  it("lets an ellipsis stand for dimensions that broadcast", function()
    local x, y = random(2, 1, 3, 4), random(5, 4, 6)
    near(ai.einsum("...ij,...jk->...ik", x, y), x:matmul(y))
  end)
  it("takes any number of operands", function()
    local c, d = random(5, 2), random(2, 3)
    near(ai.einsum("ij,jk,kl,li->", a, b, c, d), a:matmul(b):matmul(c):matmul(d):diagonal():sum())
  end)
  it("has gradients", function()
    local x = random(3, 4):requires_grad_()
    ai.einsum("ij,jk->", x, b):backward()
    near(x.grad, b:sum(2):expand(3, 4))
  end)
  it("makes no outer product where a matrix product will do", function()
    local x, y = ai.ones(64, 300), ai.ones(300, 64)
    ai.memory {reset_peak = true}
    local before = ai.memory().cpu.live
    ai.scope(function() ai.einsum("ij,jk->ik", x, y) end)
    assert.is_true(ai.memory().cpu.peak - before < 64 * 300 * 64 * 4 / 10)
  end)
  it("names the subscript that does not fit", function()
    local function message(...) return select(2, pcall(ai.einsum, ...)) end
    assert.matches('subscript "j" has size 4 in operand 1 and 5 in operand 2', message("ij,kj->ik", a, b), 1, true)
    assert.matches('subscript "z" of the output is in no operand', message("ij->z", a), 1, true)
    assert.matches('subscript "i" is twice in the output', message("ij->ii", a), 1, true)
    assert.matches('subscript "i" has sizes 3 and 4 in operand 1', message("ii->i", a), 1, true)
    assert.matches("operand 1 has 2 dimensions, and 3 subscripts", message("ijk->i", a), 1, true)
    assert.matches("subscripts of 2 operands, and 1 tensor", message("ij,jk->ik", a), 1, true)
    assert.matches('"1" is no subscript', message("i1->i", a), 1, true)
  end)
end)
