package smtp

import "context"

// doBDAT is BDAT (RFC 3030). Whatever becomes of a chunk, its octets are read:
// they are text, and the next command comes after them.
func (c *Conn) doBDAT(ctx context.Context, args []byte) answer {
	size, last, ok := parseChunk(args)
	if !ok { // nobody knows where the next command would begin
		return answer{reply: replyBDATSyntax, stage: stageData, why: because("bad chunk size"), close: closedJunk}
	}
	// In LMTP the last chunk is answered for each recipient, whatever it comes
	// to: a client that pipelines counts on it.
	text := last && c.phase() > phaseReady
	a := c.beginChunk(ctx)
	keep := a.reply == nil
	sum := size
	if keep {
		sum += c.text.size
	}
	if sum < 0 || sum > c.twiceSize() {
		c.hit("limits.message_size", sum, c.limits().MessageSize)
		return answer{reply: replyTooBig, stage: stageMessage, why: because("twice limits.message_size"), close: closedLimit, text: text}
	}
	if keep && sum > c.limits().MessageSize {
		c.tooBig(sum)
	}
	if lost := c.readChunk(size, keep); lost.close != goesOn {
		return lost
	}
	a = c.endChunk(ctx, a, size > 0, last)
	a.text = text
	return a
}

// beginChunk says by a reply that the chunk is not wanted.
func (c *Conn) beginChunk(ctx context.Context) answer {
	p := c.phase()
	if wrong := c.outOfOrder(verbBDAT); wrong != nil {
		if p != phaseFailed {
			c.pace = pace{}
		}
		if p == phaseMail || p == phaseRefused {
			// The next transaction may be in the same write (RFC 3030 §4.2): its
			// recipients must not be added to this one.
			c.reset()
			c.setPhase(phaseFailed)
		}
		return answer{reply: wrong, stage: stageData}
	}
	if p == phaseBDAT {
		return answer{}
	}
	a := c.beginText(ctx, DataParams{BDAT: true})
	if a.reply != nil {
		c.setPhase(phaseFailed)
	} else {
		c.setPhase(phaseBDAT)
	}
	return a
}

// readChunk reads size octets. They are given to the Body as they are: no dot
// and no line end means anything here.
func (c *Conn) readChunk(size int64, keep bool) answer {
	for size > 0 {
		if c.in.empty() {
			if size > smallBuffer {
				c.in.enlarge()
			}
			if err := c.fillText(); err != nil {
				return c.lostText(err)
			}
		}
		piece := c.in.unread()
		if int64(len(piece)) > size {
			piece = piece[:size]
		}
		if keep {
			c.take(piece)
		}
		c.in.skip(len(piece))
		c.pace.octets += int64(len(piece))
		size -= int64(len(piece))
	}
	return answer{}
}

// endChunk answers a chunk that was read. After one that failed the others of
// its text are read through (phaseFailed).
func (c *Conn) endChunk(ctx context.Context, a answer, some, last bool) answer {
	switch {
	case a.reply != nil: // it was not wanted
	case c.text.failed:
		a = c.failText()
		c.setPhase(phaseFailed)
	case last:
		return c.endText(ctx)
	default:
		return answer{reply: replyOK, free: some}
	}
	if last && c.phase() == phaseFailed {
		c.setPhase(phaseReady)
	}
	return a
}
