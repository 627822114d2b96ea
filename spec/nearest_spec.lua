local nearest = require "aijit.nearest"

describe("nearest names", function()
  it("counts letters put in, taken out, replaced and exchanged", function()
    assert.equal(0, nearest.distance("abc", "abc"))
    assert.equal(1, nearest.distance("abc", "acb"))
    assert.equal(1, nearest.distance("abc", "abcd"))
    assert.equal(3, nearest.distance("", "abc"))
    assert.equal(3, nearest.distance("kitten", "sitting"))
  end)

  it("come closest first, three at most", function()
    assert.same({"size", "sizes"}, nearest.find("siz", {"sizes", "size", "shape", "stride"}))
    assert.same({}, nearest.find("zzz", {"a", "b"}))
  end)
end)
