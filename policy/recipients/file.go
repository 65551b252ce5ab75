package recipients

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/incoming-mx/incoming/internal/listfile"
)

// File is a list in a file: an address or, by @, a whole domain a line, as in
// NewList. Empty lines, and what follows a "#" at the start of a line or after a
// space, are comments. It is looked at once a second, when somebody is asking, and
// read again when it has changed; with a mistake in it the list before stays in
// force.
type File struct {
	file *listfile.File
	opts FileOptions
	list atomic.Pointer[List]
}

// FileOptions may be nil.
type FileOptions struct {
	// OnReload is told when the file was read again because it had changed: how
	// many addresses and domains are now in force, or why those before stay. It
	// is called inline by a session.
	OnReload func(n int, err error)
}

// OpenFile reads a list. The error names the file and the line, and how to mend it.
func OpenFile(path string, o *FileOptions) (*File, error) {
	f := new(File)
	if o != nil {
		f.opts = *o
	}
	var err error
	f.file, err = listfile.Open(path, func(text []byte) error {
		l := &List{make(map[string]struct{})}
		err := listfile.Lines(path, text, func(_ int, line string) error {
			if strings.ContainsAny(line, " \t") {
				return fmt.Errorf("%q has more than one word; write one address a line", line)
			}
			e, err := entry(line)
			l.set[e] = struct{}{}
			return err
		})
		if err == nil {
			f.list.Store(l)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("recipients: %w", err)
	}
	return f, nil
}

// Len is how many addresses and domains are in force.
func (f *File) Len() int { return f.list.Load().Len() }

// Reload reads the file now, changed or not. At an error the list before stays in
// force. OnReload is not told.
func (f *File) Reload() error {
	if err := f.file.Reload(); err != nil {
		return fmt.Errorf("recipients: %w", err)
	}
	return nil
}

// Known implements Source; it never fails.
func (f *File) Known(ctx context.Context, address string) (bool, error) {
	news, err := f.file.Again()
	if news && f.opts.OnReload != nil {
		if err != nil {
			err = fmt.Errorf("recipients: %w", err)
		}
		f.opts.OnReload(f.Len(), err)
	}
	return f.list.Load().Known(ctx, address)
}

func (f *File) neverWaits() {}
