package header

import (
	"strings"
	"testing"
)

// TestScannerEndsInALongLineThatIsNoField: one line of text without any header
// would count as header until its end, however long, and the message would be
// refused for a header that it does not have.
func TestScannerEndsInALongLineThatIsNoField(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 5000)
	for name, c := range map[string]struct {
		text string
		done bool
		size int64
	}{
		"no header":       {long, true, 0},
		"a field":         {"Subject: " + long, false, 5009},
		"after a field":   {"A: b\r\n" + long, true, 6},
		"a fold":          {"A: b\r\n " + long, false, 5007},
		"a fold of none":  {" " + long, true, 0},
		"colon too late":  {long + ": x", true, 0},
		"just maxPartial": {long[:maxPartial], false, maxPartial},
		"one octet more":  {long[:maxPartial+1], true, 0},
	} {
		for _, step := range []int{1, 7, 999, len(c.text)} {
			var s Scanner
			for text := []byte(c.text); len(text) > 0; text = text[min(step, len(text)):] {
				s.Write(text[:min(step, len(text))])
			}
			if s.Done() != c.done || s.Size() != c.size {
				t.Errorf("%s in steps of %d: done %v, size %d; want %v, %d", name, step, s.Done(), s.Size(), c.done, c.size)
			}
			// Parse sees the same header.
			var size int
			for f := range Parse([]byte(c.text)).Fields() {
				size += len(f.Raw)
			}
			if c.done && int64(size) != c.size {
				t.Errorf("%s: Parse finds a header of %d octets, Scanner %d", name, size, c.size)
			}
		}
	}
}
