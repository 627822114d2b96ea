--- Parts of speech: a recurrent network reads a sentence in both directions and names the kind of each of its words.
--
--   aijit examples/tagger/train.lua
--   aijit examples/tagger/train.lua hidden=32 max_epochs=2
--   aijit examples/tagger/train.lua text=mine.txt --help

local ai = require "aijit"
local nn = ai.nn

local here = debug.getinfo(1, "S").source:match "^@(.*/)" or ""

local Config = ai.Config.extend("TaggerConfig", {
  text          = ai.field(here .. "sentences.txt", {help = "One sentence a line, each word as word/TAG"}),
  embedding     = ai.field(32,   {help = "Numbers that stand for a word"}),
  hidden        = ai.field(64,   {help = "Size of the LSTM, in each direction"}),
  dropout       = ai.field(0.2,  {help = "Share of a word's numbers that is dropped in training"}),
  learning_rate = ai.field(5e-3, {help = "Learning rate of AdamW"}),
  max_epochs    = 6,
})

-- -- The text ----------------------------------------------------------------------------------------------------------

--- Numbers for the words or the tags of a text, in the order in which they come.
local function numbering()
  local list, index = {}, {}
  return list, function(name)
    if not index[name] then
      list[#list + 1] = name
      index[name] = #list
    end
    return index[name]
  end
end

--- Every fifth sentence is held out. A sentence is a pair of lists: the numbers of its words, and of their tags.
local function read(path)
  local text = {train = {}, valid = {}}
  local word_number, tag_number
  text.words, word_number = numbering()
  text.tags, tag_number = numbering()
  local count = 0
  for line in io.lines(path) do
    local words, tags = {}, {}
    for word, tag in line:gmatch "(%S+)/(%S+)" do
      words[#words + 1], tags[#tags + 1] = word_number(word), tag_number(tag)
    end
    count = count + 1
    table.insert(count % 5 == 0 and text.valid or text.train, {words, tags})
  end
  return text
end

local Sentences = ai.class("Sentences", ai.data.Dataset)
function Sentences:__init(list) self.list = list end
function Sentences:size() return #self.list end
function Sentences:get(i)
  return ai.tensor(self.list[i][1], {dtype = "i64"}), ai.tensor(self.list[i][2], {dtype = "i64"})
end

-- -- The task ----------------------------------------------------------------------------------------------------------

local Tagger = ai.class("Tagger", ai.Task)
Tagger.Config = Config

function Tagger:__init(config)
  ai.Task.__init(self, config)
  self.text = read(config.text)
  self.embedding = nn.Embedding(#self.text.words, config.embedding)
  self.dropout = nn.Dropout(config.dropout)
  self.lstm = nn.LSTM(config.embedding, config.hidden, {bidirectional = true})
  self.output = nn.Linear(2 * config.hidden, #self.text.tags)
end

function Tagger:get_loader(phase)
  local dataset = Sentences(phase == "train" and self.text.train or self.text.valid)
  return ai.data.Loader(dataset, {
    batch_size = self.config.batch_size, shuffle = phase == "train", seed = self.config.seed,
    collate = ai.data.pad_collate{value = 1, lengths = true},       -- (sentences, longest); and the lengths
  })
end

function Tagger:build_optimizer() return ai.optim.AdamW(self:parameters(), {lr = self.config.learning_rate}) end

--- Sentences without their padding: all their words in one list, as the LSTM takes them.
local function pack(padded, lengths)
  return nn.pack_padded_sequence(padded, lengths, {batch_first = true, enforce_sorted = false})
end

function Tagger:forward(words)
  local read_both_ways = self.lstm(words:with(self.dropout(self.embedding(words.data))))
  return self.output(read_both_ways.data)                           -- (words, tags)
end

function Tagger:get_loss(batch, state)
  local words, tags = pack(batch[1], batch[3]), pack(batch[2], batch[3]).data
  local logits = self:forward(words)
  self:log_step({words.data, tags}, logits, state)                  -- its accuracy is that of words
  return ai.cross_entropy(logits, tags)
end

--- The tags of a sentence: `task:tag "the watch will rose"`.
---@param sentence string
---@return string # each word as word/TAG
function Tagger:tag(sentence)
  local number, numbers, out = {}, {}, {}
  for i, word in ipairs(self.text.words) do number[word] = i end
  for word in sentence:gmatch "%S+" do
    numbers[#numbers + 1] = number[word] or error(("the text does not have the word '%s'"):format(word), 2)
    out[#out + 1] = word
  end
  self:eval()
  local tags = ai.no_grad(self.forward, self, pack(ai.tensor({numbers}, {dtype = "i64"}), {#numbers})):argmax(-1):totable()
  for i, word in ipairs(out) do out[i] = word .. "/" .. self.text.tags[tags[i]] end
  return table.concat(out, " ")
end

--- The share of held-out words that one gets right by always naming a word's most frequent tag.
---@return number
function Tagger:baseline()
  local counts, right, all = {}, 0, 0
  for _, sentence in ipairs(self.text.train) do
    for i, word in ipairs(sentence[1]) do
      local of = counts[word] or {}
      counts[word], of[sentence[2][i]] = of, (of[sentence[2][i]] or 0) + 1
    end
  end
  for _, sentence in ipairs(self.text.valid) do
    for i, word in ipairs(sentence[1]) do
      local best, most = nil, 0
      for tag, n in pairs(counts[word] or {}) do if n > most then best, most = tag, n end end
      right, all = right + (best == sentence[2][i] and 1 or 0), all + 1
    end
  end
  return right / all
end

function Tagger:on_training_start()
  self.board:status(("the most frequent tag of each word is right for %.1f %% of the held-out words"):format(100 * self:baseline()))
end

function Tagger:on_training_end() self.board:status(self:tag "the light can will light the light can .") end

if ai.main(...) then Tagger:launch(Config()) end
return Tagger
