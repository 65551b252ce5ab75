package listfile

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// write replaces a file by one that holds text.
func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func TestAFileIsLookedAtOnceASecond(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "list")
	write(t, path, "one")
	synctest.Test(t, func(t *testing.T) {
		var texts []string
		f, err := Open(path, func(text []byte) error { texts = append(texts, string(text)); return nil })
		if err != nil {
			t.Fatal(err)
		}
		write(t, path, "two")
		time.Sleep(Every - time.Nanosecond)
		if news, err := f.Again(); news || err != nil {
			t.Errorf("read before its time: %v", err)
		}
		time.Sleep(time.Nanosecond)
		if news, err := f.Again(); !news || err != nil {
			t.Errorf("not read in its time: %v", err)
		}
		time.Sleep(Every)
		if news, err := f.Again(); news || err != nil {
			t.Errorf("news of what has not changed: %v", err)
		}
		if !slices.Equal(texts, []string{"one", "two"}) {
			t.Errorf("used %q", texts)
		}
	})
}

func TestWhatIsWrongIsToldOnceAndAgainWhenItIsMended(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "list")
	write(t, path, "good")
	bad := errors.New("bad")
	f, err := Open(path, func(text []byte) error {
		if string(text) == "bad" {
			return bad
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	is := func(what string, wantNews, wantErr bool) {
		t.Helper()
		f.Due()
		if news, err := f.Again(); news != wantNews || (err != nil) != wantErr {
			t.Errorf("%s: news %t, %v", what, news, err)
		}
	}
	is("unchanged", false, false)
	write(t, path, "bad")
	is("a mistake", true, true)
	is("the same mistake", false, false)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	is("gone", true, true)
	is("still gone", false, false)
	write(t, path, "good")
	is("mended", true, false)
	write(t, path, "bad")
	if err := f.Reload(); !errors.Is(err, bad) {
		t.Errorf("reload: %v", err)
	}
}

// Written again within a tick of the file system's clock, and as long as before, a
// file looks the same.
func TestAChangeThatDoesNotShowIsFound(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "list")
	write(t, path, "one")
	var text string
	f, err := Open(path, func(b []byte) error { text = string(b); return nil })
	if err != nil {
		t.Fatal(err)
	}
	was, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("two"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, was.ModTime(), was.ModTime()); err != nil {
		t.Fatal(err)
	}
	f.Due()
	if news, err := f.Again(); !news || err != nil || text != "two" {
		t.Errorf("news %t, %v, %q", news, err, text)
	}
}

func TestWhatIsNoFileOfSenseIsNotOpened(t *testing.T) {
	t.Parallel()
	use := func([]byte) error { return nil }
	large := filepath.Join(t.TempDir(), "large")
	write(t, large, "")
	if err := os.Truncate(large, most+1); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{filepath.Join(t.TempDir(), "none"), t.TempDir(), os.DevNull, large} {
		if _, err := Open(path, use); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestLines(t *testing.T) {
	t.Parallel()
	var got []string
	err := Lines("F", []byte("\ufeff# a list\r\n\r\n  one # 1\ntwo#2\n\t#\nthree"), func(n int, line string) error {
		got = append(got, fmt.Sprint(n, " ", line))
		return nil
	})
	if want := []string{"3 one", "4 two#2", "6 three"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, want %q, %v", got, want, err)
	}
	if err := Lines("F", []byte("a\n\xff"), func(int, string) error { return nil }); err == nil || err.Error() != "F:2: not UTF-8" {
		t.Error(err)
	}
	if err := Lines("F", []byte("\na"), func(int, string) error { return errors.New("no") }); err == nil || err.Error() != "F:2: no" {
		t.Error(err)
	}
}
