--- Patterns of dimensions.

local ai = require "aijit"
local m = require "aijit.model"

local function message_of(f, ...)
  local ok, message = pcall(f, ...)
  assert.is_false(ok)
  return message
end

local function same(a, b)
  assert.are.same(a.shape, b.shape)
  assert.is_true(ai.equal(a, b):item())
end

describe("rearrange", function()
  local x = ai.arange(2 * 3 * 4 * 6):reshape(2, 3, 4, 6)

  it("moves, joins and splits", function()
    same(x:permute(1, 3, 4, 2), m.f.rearrange(x, "b c h w -> b h w c"))
    same(x:permute(1, 3, 4, 2):reshape(2, 24, 3), m.f.rearrange(x, "b c h w -> b (h w) c"))
    local patches = m.f.rearrange(x, "b c (h p) (w q) -> b (h w) (p q c)", {p = 2, q = 3})
    same(x:reshape(2, 3, 2, 2, 2, 3):permute(1, 3, 5, 4, 6, 2):reshape(2, 4, 18), patches)
    same(x, m.f.rearrange(patches, "b (h w) (p q c) -> b c (h p) (w q)", {p = 2, q = 3, h = 2}))
  end)

  it("takes ... and 1", function()
    same(x:reshape(2, 12, 6), m.f.rearrange(x, "b c h ... -> b (c h) ..."))
    same(x:permute(4, 1, 2, 3), m.f.rearrange(x, "... w -> w ..."))
    same(x:reshape(2, 1, 3, 4, 6, 1), m.f.rearrange(x, "b ... -> b 1 ... 1"))
    same(x, m.f.rearrange(x:unsqueeze(2), "b 1 ... -> b ..."))
    same(x:reshape(144), m.f.rearrange(x, "a b c d -> (a b c d)"))
  end)

  it("repeats along new names", function()
    local y = ai.tensor{{1, 2}, {3, 4}}
    same(ai.tensor{{1, 1, 2, 2}, {3, 3, 4, 4}}, m.f.repeat_axes(y, "h w -> h (w n)", {n = 2}))
    same(ai.tensor{{1, 2, 1, 2}, {3, 4, 3, 4}}, m.f["repeat"](y, "h w -> h (n w)", {n = 2}))
    same(ai.stack({y, y, y}, 3), m.f.repeat_axes(y, "h w -> h w c", {c = 3}))
  end)

  it("is a layer with a spec, and has a gradient", function()
    local layer = m.rearrange("b c (h p) w -> b p (h w c)", {p = 2})
    same(m.f.rearrange(x, "b c (h p) w -> b p (h w c)", {p = 2}), layer(x))
    same(layer(x), ai.nn.from_spec(layer:to_spec())(x))
    assert.are.same({2, 2, 36}, layer:output_shape(2, 3, 4, 6))
    local z = ai.ones(2, 4, {requires_grad = true})
    local y = m.f.repeat_axes(z, "a (b c) -> c a b n", {b = 2, n = 3}) * 2
    y:sum():backward()
    assert.are.same({{6, 6, 6, 6}, {6, 6, 6, 6}}, z.grad:totable())
  end)

  it("refuses patterns and sizes that cannot be, and says why", function()
    assert.matches("one %-> is wanted", message_of(m.f.rearrange, x, "a b c d"))
    assert.matches("bracket is not closed", message_of(m.rearrange, "(a b -> a b"))
    assert.matches("closes that was not opened", message_of(m.rearrange, "a) b -> a b"))
    assert.matches("'a' stands twice", message_of(m.rearrange, "a a -> a"))
    assert.matches("'a%-b' is no name", message_of(m.rearrange, "a-b -> a"))
    assert.matches("'d' is missing on the right", message_of(m.f.rearrange, x, "a b c d -> a b c"))
    assert.matches("'e' is missing on the left", message_of(m.f.rearrange, x, "a b c d -> a b c d e"))
    assert.matches("has 4 dimensions, the left side 3", message_of(m.f.rearrange, x, "a b c -> c b a"))
    assert.matches("dimension 4 has 6, which 4 does not divide", message_of(m.f.rearrange, x, "a b c (d e) -> a b c d e", {e = 4}))
    assert.matches("dimension 2 has 3, not 5", message_of(m.f.rearrange, x, "a b c d -> b a c d", {b = 5}))
    assert.matches("neither 'd' nor 'e' has a size", message_of(m.f.rearrange, x, "a b c (d e) -> a b c d e"))
    assert.matches("there is no 'q'", message_of(m.f.rearrange, x, "a b c d -> a b c d", {q = 2}))
    assert.matches("size of 'n' is not given", message_of(m.f.repeat_axes, x, "a b c d -> a b c d n"))
  end)
end)
