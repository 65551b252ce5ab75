package mailparse

import (
	"errors"
	"io"
	"strings"

	"github.com/incoming-mx/incoming/header"
)

// Part is a part of a message that has no parts itself: a text, a file, or a
// message that is attached.
type Part struct {
	// Section is the part's place: "2.1" is the first part of the message's second
	// (RFC 9051 §6.4.5). A message without parts has one, "1".
	Section string
	// Type is the media type in lower case, such as "image/png". It is never "".
	Type string
	// Charset is what the sender says; "" when it does not.
	Charset string
	// Name is the file name, decoded, without any directory; "" when there is
	// none. It is the sender's: make up a path of your own to store it under.
	Name string
	// ContentID is without angle brackets: what HTML names as "cid:…".
	ContentID string
	// Disposition is "inline", "attachment", or "" where the sender does not say.
	Disposition string
	// Encoding is the transfer encoding in lower case; "" is none. Open has taken
	// it off.
	Encoding string
	// Size is the octets that Open yields.
	Size int64

	open           Opener
	offset, length int64 // where it lies in the message
	boundary       string
}

// Open reads the part's octets, its transfer encoding taken off, from where the
// message is stored. Text is in its own charset. The caller closes the reader.
// After Deliver has returned it fails, for a message that Read has read. It is an
// Opener, for a message that is attached.
func (p *Part) Open() (io.ReadCloser, error) {
	text, err := p.open()
	if err != nil {
		return nil, err
	}
	if s, ok := text.(io.Seeker); ok {
		_, err = s.Seek(p.offset, io.SeekStart)
	} else {
		_, err = io.CopyN(io.Discard, text, p.offset)
	}
	if err != nil {
		return nil, errors.Join(err, text.Close())
	}
	return &partReader{from: text, left: p.length, dec: newDecoder(p.Encoding)}, nil
}

// partReader decodes a part as it is read.
type partReader struct {
	from io.ReadCloser
	left int64 // octets that are still to be read
	dec  decoder
	buf  []byte // read
	out  []byte // decoded
	rest []byte // of out, not yet given
	err  error
}

func (r *partReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for len(r.rest) == 0 {
		if r.err != nil {
			return 0, r.err
		}
		r.fill()
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

func (r *partReader) fill() {
	if r.buf == nil {
		r.buf = make([]byte, min(r.left+1, 32<<10))
	}
	if r.left == 0 {
		r.out, r.err = r.dec.flush(r.out[:0]), io.EOF
		r.rest = r.out
		return
	}
	n, err := r.from.Read(r.buf[:min(r.left, int64(len(r.buf)))])
	r.left -= int64(n)
	r.out = r.dec.decode(r.out[:0], r.buf[:n])
	r.rest = r.out
	if err == io.EOF && r.left > 0 {
		r.err = io.ErrUnexpectedEOF // it has become shorter since it was parsed
	} else if err != nil && err != io.EOF {
		r.err = err
	}
}

func (r *partReader) Close() error { return r.from.Close() }

// describe reads what a part's header says of it, and returns what is wrong with
// that, or "".
func (p *Part) describe(h header.Header, parent *node, cut bool) (note string) {
	kind, params := parseParams(h.Get("Content-Type"))
	p.Type = strings.ToLower(kind)
	disposition, dparams := parseParams(h.Get("Content-Disposition"))
	if p.Disposition = strings.ToLower(disposition); p.Disposition != "" && p.Disposition != "inline" {
		p.Disposition = "attachment" // RFC 2183 §2.8
	}
	p.Name = fileName(dparams.text("filename"))
	if p.Name == "" {
		p.Name = fileName(params.text("name"))
	}
	p.ContentID = strings.Trim(Decode(h.Get("Content-ID")), "<> ")
	p.Encoding = encodingName(h.Get("Content-Transfer-Encoding"))
	if !isMediaType(p.Type) {
		switch {
		case p.Type != "":
			note = "the media type cannot be understood"
			p.Type = "application/octet-stream"
		case cut && parent != nil:
			p.Type = "application/octet-stream"
		case parent != nil && parent.part.Type == "multipart/digest":
			p.Type = "message/rfc822" // RFC 2046 §5.1.5
		default:
			p.Type = "text/plain"
		}
		if parent == nil && h.Has("Content-Type") {
			p.Type = "text/plain" // of a message something is to be read
		}
	}
	p.Charset = strings.ToLower(params.text("charset"))
	if strings.HasPrefix(p.Type, "multipart/") {
		p.boundary = strings.TrimRight(params.raw("boundary"), " \t")
		if len(p.boundary) > maxBoundary {
			p.boundary = ""
		}
	}
	return note
}

// maxBoundary is 70 in RFC 2046 §5.1.1; some are longer.
const maxBoundary = 256

// plain makes of a multipart without parts what it is to a reader.
func (p *Part) plain() {
	p.Type, p.Encoding, p.Disposition, p.Name, p.ContentID = "text/plain", "", "", "", ""
}

// isMediaType is RFC 2045 §5.1, as far as it keeps out what is none.
func isMediaType(s string) bool {
	kind, sub, found := strings.Cut(s, "/")
	return found && kind != "" && sub != "" && len(s) <= 255 &&
		!strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune(`()<>@,;:\"[]?=`, r) }) &&
		!strings.Contains(sub, "/")
}

// fileName is a name without control characters and directories (RFC 2183 §2.3).
func fileName(s string) string {
	s = strings.TrimRight(s, `/\ `)
	s = strings.TrimSpace(s[strings.LastIndexAny(s, `/\`)+1:])
	if s == "." || s == ".." {
		return ""
	}
	return s
}
