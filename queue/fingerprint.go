package queue

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Fingerprint is the same for a message that its sender sends again, when we have
// accepted it and the reply was lost: for those who must not act twice even then.
// The ID tells our own redeliveries, which this tells too: it hangs on no attempt,
// and not on who is still owed.
//
// It is the SHA-256, in lower-case hexadecimal, of the reverse-path and LF, each
// forward-path and LF, sorted by octets, an LF, and the text as it came: without
// the fields that were added at reception, and with those that policies took out.
// Two messages of the same octets, sent on purpose, cannot be told from one sent
// twice; most carry a Message-ID or a Date of their own.
//
// The first call reads the stored text, and is so for all that are narrowed from the
// message; the error is the storage's, and a later call tries again.
func (m *Message) Fingerprint() (string, error) {
	if m.whole != nil {
		return m.whole.Fingerprint()
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.expired {
		return "", fmt.Errorf("message %s: %w", m.ID, ErrLeaseEnded)
	}
	m.printing.Lock()
	defer m.printing.Unlock()
	if m.fingerprint != "" {
		return m.fingerprint, nil
	}
	raw, err := m.source()
	if err != nil {
		return "", fmt.Errorf("message %s: open: %w", m.ID, err)
	}
	h := sha256.New()
	to := m.recipients()
	slices.Sort(to)
	_, _ = io.WriteString(h, m.Envelope.MailFrom+"\n"+strings.Join(to, "\n")+"\n\n") // a hash takes everything
	n, err := io.Copy(h, io.NewSectionReader(raw, 0, m.rawSize))
	if err == nil && n != m.rawSize {
		err = io.ErrUnexpectedEOF // the storage holds less than it promised
	}
	if err = errors.Join(err, raw.Close()); err != nil {
		return "", fmt.Errorf("message %s: read: %w", m.ID, err)
	}
	m.fingerprint = hex.EncodeToString(h.Sum(nil))
	return m.fingerprint, nil
}

// recipients is all that the client gave, owed or settled.
func (m *Message) recipients() []string {
	to := m.Envelope.Addresses()
	for _, o := range m.Settled {
		to = append(to, o.Recipient)
	}
	return to
}
