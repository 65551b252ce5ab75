// Package maildir delivers messages into Maildirs: one for all, or one a
// recipient.
//
// A message is written to tmp, synced, moved to new, and the directory is
// synced, before it counts as delivered. On top of it stand the fields
// Return-Path and Delivered-To; under them it is byte for byte what was
// received, with the line ends it came with.
//
// The name of the file is made from the message's ID, so that a message
// delivered again (see delivery.Adapter) replaces its unread copy. When a mail
// client has moved that copy to cur meanwhile, the copy stays as it is and the
// message counts as delivered. Only when it was read and then deleted does it
// come a second time.
//
// Whatever goes wrong (a full disk, a directory that cannot be written) is a
// retry, never a reject, and leaves nothing behind in new.
package maildir

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/incoming-mx/incoming/delivery"
	"github.com/incoming-mx/incoming/queue"
)

// Options is how Maildirs are made. The zero value of a field is the default in
// parentheses.
type Options struct {
	// DirMode is the permissions of directories that are made (0700), FileMode
	// those of messages (0600); the process's umask applies to both.
	DirMode, FileMode fs.FileMode
}

// Adapter delivers into Maildirs. It is safe for use by many goroutines, and
// keeps nothing in memory between messages.
type Adapter struct {
	template template
	files    files
}

var _ delivery.Adapter = (*Adapter)(nil)

// New returns an Adapter that delivers into the Maildir at path, which is made,
// with its parents, when the first message comes. nil options are the defaults.
//
// {rcpt} and {domain} in path stand for a recipient's address and domain, and
// make one Maildir of each path that comes out; each recipient then has a
// verdict of its own. Capital letters do not make another Maildir. Whatever an
// address holds, {rcpt} and {domain} are each a part of one file name: see
// docs/adapters.md for how they are escaped. Who may name any recipient may
// make any number of Maildirs: accept those that exist.
//
// New changes nothing on the disk. It is an error when path is empty, holds
// another {name}, or when the part of it before {rcpt} and {domain} cannot be a
// directory that this process may write to.
func New(path string, opts *Options) (*Adapter, error) {
	t, err := parseTemplate(path)
	if err != nil {
		return nil, fmt.Errorf("maildir: %w", err)
	}
	if err := checkWritable(t.fixed); err != nil {
		return nil, fmt.Errorf("maildir: %w", err)
	}
	f := osFiles{dirMode: 0o700, fileMode: 0o600}
	if opts != nil && opts.DirMode != 0 {
		f.dirMode = opts.DirMode.Perm()
	}
	if opts != nil && opts.FileMode != 0 {
		f.fileMode = opts.FileMode.Perm()
	}
	if f.dirMode&0o300 != 0o300 || f.fileMode&0o200 != 0o200 {
		return nil, fmt.Errorf("maildir: modes %04o and %04o do not let the owner write: "+
			"a directory needs at least 0300, a message 0200", f.dirMode, f.fileMode)
	}
	return &Adapter{template: t, files: f}, nil
}

// Deliver puts m into its Maildirs. Without {rcpt} or {domain} in the path it is
// one file for all recipients; with them, the recipients whose path is the same
// share a file. See delivery.Adapter.
func (a *Adapter) Deliver(ctx context.Context, m *queue.Message) error {
	if !a.template.perRecipient() {
		return a.deliverTo(ctx, m, a.template.fixed, m.Envelope.Addresses())
	}
	results := a.deliverEach(ctx, m)
	for _, err := range results {
		if err != nil {
			return delivery.PerRecipient(results)
		}
	}
	return nil
}

// deliverEach is one file for each Maildir, and the result for each recipient.
func (a *Adapter) deliverEach(ctx context.Context, m *queue.Message) map[string]error {
	results := make(map[string]error, len(m.Envelope.RcptTo))
	for _, box := range a.template.group(m.Envelope.Addresses()) {
		err := a.deliverTo(ctx, m, box.path, box.recipients)
		for _, rcpt := range box.recipients {
			results[rcpt] = err
		}
	}
	return results
}

// deliverTo is one message into one Maildir.
func (a *Adapter) deliverTo(ctx context.Context, m *queue.Message, dir string, to []string) error {
	if err := context.Cause(ctx); err != nil {
		return fmt.Errorf("maildir: %s: not begun: %w", dir, err)
	}
	d := drop{files: a.files, dir: dir, name: escape(string(m.ID)), redelivery: m.Attempt > 1}
	if err := d.deliver(ctx, m, a.template.fixed, fields(m.Envelope.MailFrom, to)); err != nil {
		return fmt.Errorf("maildir: %s: %w", dir, err)
	}
	return nil
}

// fields is the header fields put on top (RFC 5321 §4.4 for Return-Path).
func fields(from string, to []string) string {
	var b strings.Builder
	b.WriteString("Return-Path: <" + oneLine(from) + ">\r\n")
	for _, rcpt := range to {
		b.WriteString("Delivered-To: " + oneLine(rcpt) + "\r\n")
	}
	return b.String()
}

// oneLine keeps an address from ending its header field: the wire lets no
// control character into an address, but a spool may come from elsewhere.
func oneLine(address string) string {
	for i := range len(address) {
		if address[i] < ' ' || address[i] == 0x7f {
			b := []byte(address)
			for j := range b {
				if b[j] < ' ' || b[j] == 0x7f {
					b[j] = '?'
				}
			}
			return string(b)
		}
	}
	return address
}

// drop is one file on its way into one Maildir.
type drop struct {
	files      files
	dir        string
	name       string // of the file in new
	redelivery bool   // an earlier attempt may have left something
}

// deliver is the whole road of a file: tmp, sync, new, sync of the directory.
func (d drop) deliver(ctx context.Context, m *queue.Message, root, top string) error {
	f, tmp, err := d.create(root)
	if err != nil {
		return err
	}
	if err := d.fill(ctx, f, m, top); err != nil {
		return errors.Join(err, d.files.remove(tmp))
	}
	if d.redelivery {
		read, err := d.alreadyRead()
		if err != nil || read {
			return errors.Join(err, d.files.remove(tmp))
		}
	}
	// Past its deadline this attempt may have been abandoned, and another may
	// have delivered the message already.
	if err := context.Cause(ctx); err != nil {
		return errors.Join(fmt.Errorf("deliver: %w", err), d.files.remove(tmp))
	}
	if err := d.files.rename(tmp, d.dir+"/new/"+d.name); err != nil {
		return errors.Join(err, d.files.remove(tmp))
	}
	return d.files.syncDir(d.dir + "/new")
}

// create makes the file in tmp, and the Maildir if it is not there. The name is
// another for each attempt: an abandoned one may still be writing to its own.
func (d drop) create(root string) (file, string, error) {
	if d.redelivery {
		if err := d.sweep(); err != nil {
			return nil, "", err
		}
	}
	tmp := d.dir + "/tmp/" + d.name + "." + attemptSuffix()
	f, err := d.files.create(tmp)
	if errors.Is(err, fs.ErrNotExist) {
		if err := makeMaildir(d.files, root, d.dir); err != nil {
			return nil, "", err
		}
		f, err = d.files.create(tmp)
	}
	return f, tmp, err
}

// fill writes the file, syncs and closes it.
func (d drop) fill(ctx context.Context, f file, m *queue.Message, top string) error {
	err := d.write(ctx, f, m, top)
	if err == nil {
		// Mail clients take a file's time for when the mail was received; the
		// access time is what tells a tmp file in use from a left one.
		err = f.setTime(m.ReceivedAt)
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func (d drop) write(ctx context.Context, f file, m *queue.Message, top string) error {
	text, err := m.Open()
	if err != nil {
		return err
	}
	defer text.Close() // it was only read
	if _, err := io.WriteString(f, top); err != nil {
		return err
	}
	// A text shorter than its size is an error of text's.
	_, err = io.CopyBuffer(struct{ io.Writer }{f}, whileAlive{ctx, text}, make([]byte, 64<<10))
	return err
}

// sweep removes what earlier attempts at this message left in tmp. One that was
// abandoned and still writes can then no longer reach new.
func (d drop) sweep() error {
	names, err := d.files.list(d.dir + "/tmp")
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, name := range names {
		if !strings.HasPrefix(name, d.name+".") {
			continue
		}
		if err := d.files.remove(d.dir + "/tmp/" + name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// alreadyRead tells whether a mail client has moved an earlier copy to cur,
// where clients add ":2," and flags to its name, some of them fields before it.
func (d drop) alreadyRead() (bool, error) {
	names, err := d.files.list(d.dir + "/cur")
	for _, name := range names {
		rest, found := strings.CutPrefix(name, d.name)
		if found && (rest == "" || strings.ContainsRune(":;!,", rune(rest[0]))) {
			return true, nil
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return false, err
}

// whileAlive reads until its ctx ends.
type whileAlive struct {
	ctx context.Context
	r   io.Reader
}

func (w whileAlive) Read(p []byte) (int, error) {
	if err := context.Cause(w.ctx); err != nil {
		return 0, err
	}
	return w.r.Read(p)
}

// checkWritable finds fault with a directory that cannot be made or written.
func checkWritable(dir string) error {
	for at := dir; ; at = parent(at) {
		info, err := os.Stat(at)
		if errors.Is(err, fs.ErrNotExist) && at != parent(at) {
			continue
		}
		if err != nil {
			return fmt.Errorf("%w: name a directory that can be used", err)
		}
		if !info.IsDir() {
			return fmt.Errorf("%s is not a directory: move it away, or name another path", at)
		}
		if err := access(at); err != nil {
			return fmt.Errorf("%s cannot be written to (%w): give it to the user this runs as, or name another path", at, err)
		}
		return nil
	}
}
