package webhook

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/transform"

	"github.com/incoming-mx/incoming/mailparse"
	"github.com/incoming-mx/incoming/queue"
)

// segment is a run of octets of a body: a text, or what is read from the queue
// when its turn comes.
type segment struct {
	text string
	open func() (io.ReadCloser, error) // nil: it is text
	size int64
}

func literal(s string) segment { return segment{text: s, size: int64(len(s))} }

// whole is the message as it came.
func whole(m *queue.Message) segment {
	return segment{open: func() (io.ReadCloser, error) { return m.Open() }, size: m.Size}
}

// content is a part, its transfer encoding taken off.
func content(p *mailparse.Part) segment { return segment{open: p.Open, size: p.Size} }

// inBase64 is a part in base64.
func inBase64(p *mailparse.Part) segment {
	return segment{
		open: through(p.Open, func() transform.Transformer { return toBase64{} }),
		size: int64(base64.StdEncoding.EncodedLen(int(p.Size))),
	}
}

// through reads what open gives through transformers of its own, one after
// another.
func through(open func() (io.ReadCloser, error), each ...func() transform.Transformer) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) {
		from, err := open()
		if err != nil {
			return nil, err
		}
		var r io.Reader = from
		for _, t := range each {
			r = transform.NewReader(r, t())
		}
		return struct {
			io.Reader
			io.Closer
		}{r, from}, nil
	}
}

// measured is a segment whose size is not known before it was read.
func measured(open func() (io.ReadCloser, error)) (segment, error) {
	r, err := open()
	if err != nil {
		return segment{}, err
	}
	size, err := io.Copy(io.Discard, r)
	return segment{open: open, size: size}, errors.Join(err, r.Close())
}

// toBase64 encodes without line breaks.
type toBase64 struct{ transform.NopResetter }

func (toBase64) Transform(dst, src []byte, atEOF bool) (nDst, nSrc int, err error) {
	n := len(src)
	if !atEOF || n%3 == 0 {
		n -= n % 3
	}
	if fits := len(dst) / 4 * 3; n > fits {
		n, err = fits, transform.ErrShortDst
	} else if n < len(src) {
		err = transform.ErrShortSrc
	}
	base64.StdEncoding.Encode(dst, src[:n])
	return base64.StdEncoding.EncodedLen(n), n, err
}

// toJSON makes of text the inside of a JSON string (RFC 8259 §7). Octets that are
// no UTF-8 are U+FFFD.
type toJSON struct{ transform.NopResetter }

func (toJSON) Transform(dst, src []byte, atEOF bool) (nDst, nSrc int, err error) {
	var small [6]byte
	for nSrc < len(src) {
		if n := asTheyAre(src[nSrc:]); n > 0 {
			n = copy(dst[nDst:], src[nSrc:nSrc+n])
			if nDst, nSrc = nDst+n, nSrc+n; nSrc == len(src) {
				break
			}
			if nDst == len(dst) {
				return nDst, nSrc, transform.ErrShortDst
			}
		}
		if src[nSrc] >= utf8.RuneSelf && !atEOF && !utf8.FullRune(src[nSrc:]) {
			return nDst, nSrc, transform.ErrShortSrc
		}
		r, n := utf8.DecodeRune(src[nSrc:])
		escaped := escapeJSON(small[:0], r)
		if len(dst)-nDst < len(escaped) {
			return nDst, nSrc, transform.ErrShortDst
		}
		nDst += copy(dst[nDst:], escaped)
		nSrc += n
	}
	return nDst, nSrc, nil
}

// asTheyAre is how many octets at the start of b need no escape.
func asTheyAre(b []byte) int {
	for i, c := range b {
		if c < ' ' || c >= utf8.RuneSelf || c == '"' || c == '\\' {
			return i
		}
	}
	return len(b)
}

func escapeJSON(b []byte, r rune) []byte {
	switch {
	case r == '"' || r == '\\':
		return append(b, '\\', byte(r))
	case r == '\n':
		return append(b, '\\', 'n')
	case r == '\r':
		return append(b, '\\', 'r')
	case r == '\t':
		return append(b, '\\', 't')
	case r < ' ':
		return fmt.Appendf(b, `\u%04x`, r)
	}
	return utf8.AppendRune(b, r)
}

// run reads segments one after another.
type run struct {
	left []segment
	in   io.ReadCloser // the first of left, opened
	took int64         // octets of it
}

func (r *run) Read(p []byte) (int, error) {
	for len(r.left) > 0 {
		s := r.left[0]
		if r.in == nil {
			if s.open == nil {
				r.in = io.NopCloser(strings.NewReader(s.text))
			} else {
				in, err := s.open()
				if err != nil {
					return 0, err
				}
				r.in = in
			}
		}
		n, err := r.in.Read(p[:min(int64(len(p)), s.size-r.took+1)])
		if r.took += int64(n); r.took > s.size {
			return 0, fmt.Errorf("there is more of the message than the %d octets that were told", s.size)
		}
		if err == io.EOF {
			err = r.next(s)
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
	return 0, io.EOF
}

// next ends a segment.
func (r *run) next(s segment) error {
	in, took := r.in, r.took
	r.left, r.in, r.took = r.left[1:], nil, 0
	if err := in.Close(); err != nil {
		return err
	}
	if took < s.size {
		return io.ErrUnexpectedEOF
	}
	return nil
}

func (r *run) Close() error {
	r.left = nil
	if r.in == nil {
		return nil
	}
	in := r.in
	r.in = nil
	return in.Close()
}
