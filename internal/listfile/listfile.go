// Package listfile keeps a file that an operator edits: it is read at the start,
// and again when it has changed. What its text means is its user's. It knows no
// list.
package listfile

import (
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync/atomic"
	"time"
)

const (
	// Every is how often, at most, the file is looked at.
	Every = time.Second
	most  = 64 << 20 // octets
)

// File is a file and what it was when it was last read. It is safe for use by many
// goroutines.
type File struct {
	path string
	use  func(text []byte) error

	next    atomic.Int64  // when the file is to be looked at again, Unix nanoseconds
	reading chan struct{} // holds one value while nobody reads the file
	read    state         // of the file as last read; its owner holds reading
	used    bool          // a text was good; likewise
}

// state is a file as it was when it was read, good or bad.
type state struct {
	info fs.FileInfo // nil when it could not be looked at
	sum  [sha256.Size]byte
	at   time.Time
	err  string
}

// Open reads the file at path and gives use its text, and again each time it has
// changed, once at a time. An error of use is an error of Open or of the later
// reading; use then leaves in force what was. A file larger than 64 MiB, and one
// that is not regular, is an error.
func Open(path string, use func(text []byte) error) (*File, error) {
	f := &File{path: path, use: use, reading: make(chan struct{}, 1)}
	f.reading <- struct{}{}
	if _, err := f.load(); err != nil {
		return nil, err
	}
	f.next.Store(time.Now().Add(Every).UnixNano())
	return f, nil
}

// Path is where the file is, as given.
func (f *File) Path() string { return f.path }

// Reload reads the file now, changed or not.
func (f *File) Reload() error {
	<-f.reading
	defer func() { f.reading <- struct{}{} }()
	_, err := f.load()
	return err
}

// Again looks at the file when it is time to and reads it if it has changed. One
// caller does; the others go on at once. news says that something is to be told:
// another text is in force, or with err that the one before still is, said once.
func (f *File) Again() (news bool, err error) {
	now, next := time.Now(), f.next.Load()
	if now.UnixNano() < next || !f.next.CompareAndSwap(next, now.Add(Every).UnixNano()) {
		return false, nil
	}
	select {
	case <-f.reading:
		defer func() { f.reading <- struct{}{} }()
	default:
		return false, nil
	}
	if !f.changed() {
		return false, nil
	}
	before := f.read
	same, err := f.load()
	if same && f.read.err == before.err {
		return false, nil
	}
	return true, err
}

// Due makes the next Again look at the file, as time would: it is for tests.
func (f *File) Due() { f.next.Store(time.Now().UnixNano()) }

// changed reports whether the file may be another than was read.
func (f *File) changed() bool {
	info, err := os.Stat(f.path)
	if err != nil || f.read.info == nil {
		return true // load finds out
	}
	old := f.read.info
	if !os.SameFile(info, old) || info.Size() != old.Size() || !info.ModTime().Equal(old.ModTime()) {
		return true
	}
	// Written again within the file system's clock tick, it looks the same.
	return f.read.at.Sub(old.ModTime()) < 2*time.Second
}

// load reads the file and has its text used. same says that it holds what it held
// at the last load.
func (f *File) load() (same bool, err error) {
	s := state{at: time.Now()}
	defer func() {
		if err != nil {
			s.err = err.Error()
		}
		f.read = s
	}()
	text, info, err := readBounded(f.path)
	if err != nil {
		s.sum = f.read.sum
		return true, err
	}
	s.info, s.sum = info, sha256.Sum256(text)
	same = s.sum == f.read.sum
	if same && f.used && f.read.err == "" {
		return true, nil
	}
	if err := f.use(text); err != nil {
		return same, err
	}
	f.used = true
	return same, nil
}

func readBounded(path string) ([]byte, fs.FileInfo, error) {
	// Before it is opened: opening a pipe waits for a writer.
	info, err := os.Stat(path)
	if err != nil {
		return nil, nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, nil, fmt.Errorf("%s is no regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close() // it was only read
	if info, err = f.Stat(); err != nil {
		return nil, nil, err
	}
	if info.Size() > most {
		return nil, nil, fmt.Errorf("%s is larger than %d octets", path, most)
	}
	text, err := io.ReadAll(io.LimitReader(f, most)) // it may grow meanwhile
	return text, info, err
}
