package policy

import (
	"strings"
	"testing"

	"github.com/incoming-mx/incoming/smtp"
)

func TestAReplyInTheWordsOfAnotherIsMadeFitForTheWire(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", mostWordedLine)
	for text, want := range map[string]string{
		"550 5.7.1 Virus found":          "550 5.7.1 Virus found",
		"451 Later":                      "451 4.7.1 Later",
		"550 4.7.1 Which class?":         "550 5.7.1 Which class?",
		"550 5.7.1000 x":                 "550 5.7.1 5.7.1000 x",
		"550":                            "550 5.7.1 ",
		"550 5.7.1":                      "550 5.7.1 ",
		"550-5.7.1 One\r\n550 5.7.1 two": "550 5.7.1 One\ntwo",
		"550-5.7.1 One\n550-5.7.1 two\n550 three":        "550 5.7.1 One\ntwo\nthree",
		"554 5.7.1 j\xc3\xb6rg\x00\x1b[2J\r":             "554 5.7.1 j??rg??[2J",
		"554 5.7.1 a\rb":                                 "554 5.7.1 a?b",
		"421 4.7.0 Go away":                              "421 4.7.0 Go away",
		"550 5.7.1 " + long + "y":                        "550 5.7.1 " + long,
		strings.Repeat("550-5.7.1 x\n", 20) + "550 end.": "550 5.7.1 " + strings.TrimSuffix(strings.Repeat("x\n", mostWordedRows), "\n"),
	} {
		r, err := Worded(text)
		if err != nil || r.String() != want {
			t.Errorf("%.60q: %v, %v; want %q", text, r, err, want)
		}
	}
	for _, text := range []string{"", "x", "25", "250 2.0.0 Ok", "354 go on", "600 no", "5501 x", "-50 x", "+50 x", "550 a\n551 b", "550 a\n250 b",
		"550 a\n\n550 b", "550x"} {
		if r, err := Worded(text); err == nil {
			t.Errorf("%q was taken for %v", text, r)
		}
	}
}

func FuzzWorded(f *testing.F) {
	f.Add("550-5.7.1 One\r\n550 5.7.1 two")
	f.Add("451 Later")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := Worded(text)
		if err != nil {
			return
		}
		if r.Code < 400 || r.Code > 599 || r.Enhanced[0] != r.Code/100 || r.Enhanced == (smtp.EnhancedCode{}) {
			t.Errorf("%q became %v", text, r)
		}
		for _, c := range []byte(r.Text) {
			if c != '\n' && (c < ' ' || c >= 0x7f) {
				t.Errorf("%q became %q", text, r.Text)
			}
		}
	})
}
