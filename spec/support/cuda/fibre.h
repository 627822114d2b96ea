// fibre.h - the threads of one block as fibres of this thread.
#pragma once
#include <functional>

// Runs kernel once for each thread of the block that standin::now stands at; they may wait for each other.
void fibre_block(const std::function<void()> &kernel);
