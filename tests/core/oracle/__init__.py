"""npm's `http-cache-semantics` as a second opinion: cases, both answers, and where they may differ."""
