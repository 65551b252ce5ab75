package crashfs

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/incoming-mx/incoming/internal/vfs"
)

// must is for calls of which the test is not about.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func put(t *testing.T, f *FS, name, text string, sync bool) {
	t.Helper()
	file, err := f.Create(name)
	must(t, err)
	_, err = io.WriteString(file, text)
	must(t, err)
	if sync {
		must(t, file.Sync())
	}
	must(t, file.Close())
}

func get(t *testing.T, f *FS, name string) (string, bool) {
	t.Helper()
	file, err := f.Open(name)
	if err != nil {
		return "", false
	}
	b, err := io.ReadAll(file)
	must(t, err)
	must(t, file.Close())
	return string(b), true
}

// outcomes is every distinct disk over the plain fates and many random ones.
func outcomes(f *FS) []string {
	var all []string
	fates := []Fate{Lost, Kept, NamesKept, TextKept}
	for seed := range uint64(200) {
		fates = append(fates, Random(seed))
	}
	for _, fate := range fates {
		if s := f.Crash(fate).String(); !slices.Contains(all, s) {
			all = append(all, s)
		}
	}
	slices.Sort(all)
	return all
}

func TestUnsyncedTextMayBeLostTornOrKept(t *testing.T) {
	t.Parallel()
	f := New()
	put(t, f, "/a", "hello", false)
	must(t, f.SyncDir("/"))
	want := []string{"a (0 octets)\n", "a (1 octets)\n", "a (2 octets)\n", "a (3 octets)\n", "a (4 octets)\n", "a (5 octets)\n"}
	if got := outcomes(f); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

func TestEachSectorOfAWriteIsLostOrKeptByItself(t *testing.T) {
	t.Parallel()
	f := New()
	put(t, f, "/a", strings.Repeat("-", 1200), true)
	must(t, f.SyncDir("/"))
	file, err := f.Reopen("/a")
	must(t, err)
	_, err = file.WriteAt([]byte(strings.Repeat("x", 1000)), 100)
	must(t, err)
	must(t, file.Close())
	found := make(map[string]bool)
	for seed := range uint64(200) {
		text, _ := get(t, f.Crash(Sectors(seed)), "/a")
		kept := ""
		for _, part := range []string{text[100:512], text[512:1024], text[1024:1100]} {
			if strings.Trim(part, part[:1]) != "" {
				t.Fatalf("a sector is torn: %q", part)
			}
			kept += part[:1]
		}
		if strings.Trim(text[:100]+text[1100:], "-") != "" {
			t.Fatalf("what was not written to has changed: %q", text)
		}
		found[kept] = true
	}
	if len(found) != 8 {
		t.Errorf("%v", found)
	}
}

func TestSyncedTextAndNameSurvive(t *testing.T) {
	t.Parallel()
	f := New()
	must(t, f.Mkdir("/d"))
	must(t, f.SyncDir("/"))
	put(t, f, "/d/a", "hello", true)
	must(t, f.SyncDir("/d"))
	if got := outcomes(f); !slices.Equal(got, []string{"d/\nd/a (5 octets)\n"}) {
		t.Errorf("%q", got)
	}
	if text, _ := get(t, f.Crash(Lost), "/d/a"); text != "hello" {
		t.Errorf("%q", text)
	}
}

func TestARenameLeavesOldNewOrBothButNeverNeither(t *testing.T) {
	t.Parallel()
	f := New()
	must(t, f.Mkdir("/from"))
	must(t, f.Mkdir("/to"))
	must(t, f.SyncDir("/"))
	put(t, f, "/from/a", "x", true)
	must(t, f.SyncDir("/from"))
	must(t, f.Rename("/from/a", "/to/b"))
	want := []string{
		"from/\nfrom/a (1 octets)\nto/\n",
		"from/\nfrom/a (1 octets)\nto/\nto/b (1 octets)\n",
		"from/\nto/\nto/b (1 octets)\n",
	}
	if got := outcomes(f); !slices.Equal(got, want) {
		t.Errorf("unsynced: %q", got)
	}
	must(t, f.SyncDir("/to"))
	if got := outcomes(f); !slices.Equal(got, want[1:]) {
		t.Errorf("new directory synced: %q", got)
	}
	must(t, f.SyncDir("/from"))
	if got := outcomes(f); !slices.Equal(got, want[2:]) {
		t.Errorf("both synced: %q", got)
	}
}

func TestTheOldDirectorySyncedMakesTheNewNameCertain(t *testing.T) {
	t.Parallel()
	f := New()
	must(t, f.Mkdir("/from"))
	must(t, f.Mkdir("/to"))
	must(t, f.SyncDir("/"))
	put(t, f, "/from/a", "x", true)
	put(t, f, "/to/b", "old", true)
	must(t, f.Rename("/from/a", "/to/b"))
	must(t, f.SyncDir("/from"))
	if got := outcomes(f); !slices.Equal(got, []string{"from/\nto/\nto/b (1 octets)\n"}) {
		t.Errorf("%q", got)
	}
}

func TestACertainRemovalIsNotUndoneByAnOlderChange(t *testing.T) {
	t.Parallel()
	f := New()
	must(t, f.Mkdir("/from"))
	must(t, f.Mkdir("/to"))
	must(t, f.SyncDir("/"))
	put(t, f, "/from/a", "x", true)
	must(t, f.SyncDir("/from"))
	must(t, f.Rename("/from/a", "/to/b"))
	must(t, f.SyncDir("/to"))
	must(t, f.Remove("/to/b"))
	must(t, f.SyncDir("/to"))
	must(t, f.SyncDir("/"))
	for _, got := range outcomes(f) {
		if _, there := get(t, f.Crash(Lost), "/to/b"); there {
			t.Errorf("/to/b came back: %q", got)
		}
	}
}

func TestARenameThereAndBackIsNotUndoneByItsFirstHalf(t *testing.T) {
	t.Parallel()
	f := New()
	must(t, f.Mkdir("/home"))
	must(t, f.Mkdir("/away"))
	must(t, f.SyncDir("/"))
	put(t, f, "/home/a", "x", true)
	must(t, f.SyncDir("/home"))
	must(t, f.Rename("/home/a", "/away/a"))
	must(t, f.Rename("/away/a", "/home/a"))
	must(t, f.SyncDir("/away"))
	if got := outcomes(f); !slices.Equal(got, []string{"away/\nhome/\nhome/a (1 octets)\n"}) {
		t.Errorf("%q", got)
	}
}

func TestADirectoryThatIsLostTakesWhatIsInIt(t *testing.T) {
	t.Parallel()
	f := New()
	must(t, f.Mkdir("/d"))
	put(t, f, "/d/a", "x", true)
	must(t, f.SyncDir("/d"))
	if got := outcomes(f); !slices.Equal(got, []string{"", "d/\nd/a (1 octets)\n"}) {
		t.Errorf("%q", got)
	}
}

func TestAfterTheCutNothingChanges(t *testing.T) {
	t.Parallel()
	f := New()
	f.CutAt(2)
	file, err := f.Create("/a")
	must(t, err)
	_, err = io.WriteString(file, "x")
	must(t, err)
	if err := file.Sync(); !errors.Is(err, ErrCut) {
		t.Errorf("Sync: %v", err)
	}
	if err := f.Mkdir("/d"); !errors.Is(err, ErrCut) {
		t.Errorf("Mkdir: %v", err)
	}
	if f.Ops() != 2 {
		t.Errorf("%d changes, want 2", f.Ops())
	}
	if got := f.Crash(Kept).String(); got != "a (1 octets)\n" {
		t.Errorf("%q", got)
	}
}

func TestLocksEndWithThePower(t *testing.T) {
	t.Parallel()
	f := New()
	_, err := f.Lock("/lock", true)
	must(t, err)
	if _, err := f.Lock("/lock", true); !errors.Is(err, vfs.ErrLocked) {
		t.Errorf("second Lock: %v", err)
	}
	l, err := f.Crash(Kept).Lock("/lock", true)
	must(t, err)
	must(t, l.Close())
}
