package mailauth

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/emersion/go-msgauth/dkim"

	"github.com/incoming-mx/incoming/header"
	"github.com/incoming-mx/incoming/policy"
)

const (
	// maxSignatures is how many signatures are looked at, the topmost.
	maxSignatures = 8
	// maxBlank is the longest run of blank lines, in octets, that is hashed: a
	// verifier must hold them back until it knows whether the text ends there
	// (RFC 6376 §3.4.3).
	maxBlank = 64 << 10
	// maxNames is how many fields one signature may name: each is looked for in the
	// whole header.
	maxNames = 1000
	// maxKey is the longest key record, in octets, that is read: RSA of 16384 bits
	// has less. What a stranger's key costs grows with its square.
	maxKey = 4 << 10
)

// signature is what one DKIM-Signature field says of itself.
type signature struct {
	domain, selector, start string
	weak                    string // why it is not taken for a pass, whatever it verifies
	names                   int    // in h=
}

// as is what the signature came to.
func (s signature) as(result Result, why string) DKIM {
	return DKIM{Result: result, Domain: s.domain, Selector: s.selector, Signature: s.start, Reason: why}
}

// signatures reads the first maxSignatures of a header.
func signatures(h header.Header) []signature {
	var all []signature
	for f := range h.Fields() {
		if len(all) < maxSignatures && strings.EqualFold(f.Name, "DKIM-Signature") {
			all = append(all, readSignature(f.Value()))
		}
	}
	return all
}

func readSignature(value string) signature {
	var s signature
	for tag := range strings.SplitSeq(value, ";") {
		name, v, _ := strings.Cut(tag, "=")
		v = strings.Join(strings.Fields(v), "")
		switch strings.TrimSpace(name) {
		case "d":
			s.domain = domainOf(v)
		case "s":
			s.selector = domainOf(v)
		case "b":
			s.start = reason(v[:min(len(v), 8)])
		case "h":
			s.names = strings.Count(v, ":") + 1
		case "l":
			s.weak = "l= leaves what follows unsigned"
		case "a":
			if strings.HasSuffix(strings.ToLower(v), "-sha1") {
				s.weak = "SHA-1 (RFC 8301)"
			}
		}
	}
	return s
}

// verifyDKIM reads the text once and checks its signatures against it. The error is
// that the text could not be read.
func (c *check) verifyDKIM(ctx context.Context, t *policy.Transaction) ([]DKIM, error) {
	if len(c.signatures) == 0 {
		return nil, nil
	}
	if slices.ContainsFunc(c.signatures, func(s signature) bool { return s.names > maxNames }) {
		return c.unchecked(errNames), nil
	}
	text, err := t.Open()
	if err != nil {
		return nil, fmt.Errorf("mailauth: %w", err)
	}
	defer text.Close() // it was only read
	in := &guard{}
	if in.r, err = signedText(t.Header, text, t.Size); err != nil {
		return nil, fmt.Errorf("mailauth: %w", err)
	}
	verified, err := dkim.VerifyWithOptions(in, &dkim.VerifyOptions{MaxVerifications: maxSignatures,
		LookupTXT: func(name string) ([]string, error) { return c.key(ctx, name) }})
	switch {
	case errors.Is(in.err, errBlank):
		return c.unchecked(errBlank), nil
	case in.err != nil:
		return nil, fmt.Errorf("mailauth: %w", in.err)
	}
	results := make([]DKIM, len(c.signatures))
	for i, s := range c.signatures {
		results[i] = s.as(Neutral, "")
		switch {
		case i < len(verified) && verified[i] != nil:
			results[i].judge(verified[i].Err, s.weak)
		case err != nil:
			results[i].Reason = reason(err.Error())
		}
	}
	return results, nil
}

// unchecked is the signatures of a message on which no work is spent.
func (c *check) unchecked(why error) []DKIM {
	results := make([]DKIM, len(c.signatures))
	for i, s := range c.signatures {
		results[i] = s.as(Policy, why.Error())
	}
	return results
}

// key is the records at the name of a key. It is called in goroutines of the
// library's, where nobody else recovers a panic.
func (c *check) key(ctx context.Context, name string) (texts []string, err error) {
	defer c.rescue()
	err = errors.New("the question broke off") // unless it is answered
	if d := domainOf(name); d != "" {
		name = d // as the DNS has it, where the signature has letters of its own (RFC 8616)
	}
	texts, err = c.dns.LookupTXT(ctx, name)
	if len(texts) == 1 && len(texts[0]) > maxKey {
		return nil, errors.New("the record is longer than is read")
	}
	return texts, err
}

func (d *DKIM) judge(err error, weak string) {
	if err != nil {
		d.Reason = reason(strings.TrimPrefix(err.Error(), "dkim: "))
	}
	switch {
	case dkim.IsTempFail(err):
		d.Result = TempError
	case weak != "":
		d.Result, d.Reason = Policy, weak
	case err == nil && d.Domain == "":
		d.Result, d.Reason = PermError, "d= is no domain"
	case err == nil:
		d.Result = Pass
	case dkim.IsPermFail(err):
		d.Result = PermError
	default:
		d.Result = Fail
	}
}

// signedText is the message for the library: the header fields as we read them, and
// always an empty line before the body, which a message may lack. size is what text
// has about.
func signedText(h header.Header, text io.Reader, size int64) (io.Reader, error) {
	var fields bytes.Buffer
	head := 0
	for f := range h.Fields() {
		head = int(f.Offset) + len(f.Raw)
		fields.Write(f.Raw)
		if !bytes.HasSuffix(f.Raw, []byte("\n")) {
			fields.WriteString("\r\n")
		}
	}
	body := bufio.NewReaderSize(text, int(min(max(size, 1<<10), 32<<10)))
	if _, err := body.Discard(head); err != nil {
		return nil, err
	}
	if start, err := body.Peek(2); err != nil && err != io.EOF {
		return nil, err
	} else if bytes.HasPrefix(start, []byte("\r\n")) {
		_, _ = body.Discard(2) // they are in the buffer
	} else if bytes.HasPrefix(start, []byte("\n")) {
		_, _ = body.Discard(1)
	}
	fields.WriteString("\r\n")
	return io.MultiReader(&fields, body), nil
}

var (
	errBlank = errors.New("more blank lines in a row than are checked")
	errNames = errors.New("more names in h= than are looked for")
)

// guard reads r until a run of blank lines is too long, and keeps the error by which
// it ended. To its reader it is the end of the text in any case: the library has
// goroutines that read on for ever when it is told of an error.
type guard struct {
	r   io.Reader
	run int
	err error
}

func (g *guard) Read(p []byte) (int, error) {
	if g.err != nil {
		return 0, io.EOF
	}
	n, err := g.r.Read(p)
	if blank := bytes.TrimLeft(p[:n], "\r\n \t"); len(blank) == 0 {
		g.run += n
	} else {
		// A run that begins and ends within p is shorter than p, which no
		// reader here makes as long as maxBlank.
		g.run += n - len(blank)
		if g.run <= maxBlank {
			g.run = len(p[:n]) - len(bytes.TrimRight(p[:n], "\r\n \t"))
		}
	}
	if g.run > maxBlank {
		g.err = errBlank
		return 0, io.EOF
	}
	if err != nil && err != io.EOF {
		g.err, err = err, io.EOF
	}
	return n, err
}
