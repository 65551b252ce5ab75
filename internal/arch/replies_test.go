package arch

import (
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// made is the replies whose text is put together when they are given, by where:
// how the manual writes them, or "" where it is the application's text or a
// change of a reply that is listed.
var made = map[string]string{
	"smtp/data.go endText":          "250 2.0.0 Ok: queued as ID",
	"smtp/verbs.go extensions":      "", // EHLO's lines, after the first
	"smtp/serve.go atConnect":       "", // the same as 421 or 554
	"smtp/replies.go named":         "", // with our name for HOST
	"smtp/reply_writer.go sendable": "", // without a code that does not fit
	"policy/replies.go numbered":    "", // with a number for N
	"policy/replies.go referred":    "", // with its reference
	"policy/worded.go Worded":       "", // in the words of a filter
	"policy/dnsbl/replies.go named": "", // with the zone for ZONE
	"policy/policy.go Reject":       "",
	"policy/policy.go Tempfail":     "",
}

func TestTheManualListsEachReplyAndNoOther(t *testing.T) {
	t.Parallel()
	listed := listedReplies(t)
	given, faults := givenReplies(sources(t), made)
	for _, fault := range faults {
		t.Error(fault)
	}
	for _, r := range given {
		if !slices.Contains(listed, r.text) {
			t.Errorf("docs/replies.md does not list %q, which %s gives", r.text, r.where)
		}
	}
	for i, text := range listed {
		if !slices.ContainsFunc(given, func(r givenReply) bool { return r.text == text }) {
			t.Errorf("docs/replies.md lists %q, which nothing gives", text)
		}
		if slices.Contains(listed[:i], text) {
			t.Errorf("docs/replies.md lists %q twice", text)
		}
	}
}

// The test above would pass if it did not see what the code gives.
func TestAReplyThatHidesIsFound(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		path, code string
		reply      string // that is found
		fault      string // that is told
	}{
		"a variable":                {"policy/x.go", `var r = &smtp.Reply{Code: 450, Enhanced: smtp.EnhancedCode{4, 7, 1}, Text: "Wait"}; func f() any { return r }`, "450 4.7.1 Wait", ""},
		"a value without its names": {"smtp/x.go", `func f() Reply { return Reply{450, EnhancedCode{4, 7, 1}, "Wait"} }`, "450 4.7.1 Wait", ""},
		"one of a list":             {"smtp/x.go", `func f() any { return []*Reply{{Code: 450, Text: "Wait"}} }`, "450 Wait", ""},
		"one of a map":              {"cmd/incoming/x.go", `func f() any { return map[string]smtp.Reply{"a": {Code: 450, Text: "Wait"}} }`, "450 Wait", ""},
		"one of many lists":         {"smtp/x.go", `func f() any { return [2][2]*Reply{{nil, {Code: 450, Text: "Wait"}}} }`, "450 Wait", ""},
		"a text put together":       {"delivery/filter/x.go", `func f(why string) any { return &smtp.Reply{Code: 550, Text: "No: " + why} }`, "", "not constant"},
		"a code put together":       {"x.go", `func f(code int) any { return &smtp.Reply{Code: code, Text: "No"} }`, "", "not constant"},
		"by its parts":              {"policy/x.go", `func f(r *smtp.Reply) { r.Text = "No" }`, "", "by its parts"},
		"made new":                  {"policy/x.go", `func f() any { return new(smtp.Reply) }`, "", "by its parts"},
		"made empty":                {"x.go", `func f() any { var r smtp.Reply; return r }`, "", "by its parts"},
		"by another name":           {"policy/x.go", `type no = smtp.Reply`, "", "another name"},
		"by a type of its own":      {"smtp/x.go", `type no Reply`, "", "another name"},
		"by Reject":                 {"policy/spf/x.go", `func f() error { return policy.Reject("No") }`, "", "a text of its own"},
		"by Tempfail":               {"policy/x.go", `func f() error { return Tempfail("No") }`, "", "a text of its own"},
		"past the writer":           {"x.go", `func f(w io.Writer) { io.WriteString(w, "421 4.3.2 No\r\n") }`, "", "looks like a reply"},
		"one that nothing gives":    {"policy/x.go", `var r = &smtp.Reply{Code: 450, Text: "Wait"}`, "450 Wait", "nothing gives it"},
		"one that is only listed":   {"smtp/x.go", `var r = &Reply{Code: 450, Text: "Wait"}; func Replies() any { return r }`, "450 Wait", "nothing gives it"},
		"one compared with":         {"smtp/x.go", `var r = &Reply{Code: 450, Text: "Wait"}; func f(x *Reply) bool { switch x { case r: return true }; return x == r }`, "450 Wait", "nothing gives it"},
		"a delivery's verdict":      {"delivery/x.go", `func f() error { return Reject(nil) }`, "", ""},
		"an example":                {"examples/a/x.go", `func f() error { return policy.Reject("No") }`, "", ""},
	} {
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, "x.go", "package x; "+c.code, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		given, faults := givenReplies([]*source{{path: c.path, file: file, fset: fset}}, nil)
		var replies []string
		for _, r := range given {
			replies = append(replies, r.text)
		}
		if got := strings.Join(replies, "|"); got != c.reply {
			t.Errorf("%s: found the replies %q, want %q", name, got, c.reply)
		}
		if got := strings.Join(faults, "|"); !strings.Contains(got, c.fault) || (got == "") != (c.fault == "") {
			t.Errorf("%s: told %q, want %q", name, got, c.fault)
		}
	}
}

var replyRow = regexp.MustCompile("(?m)^\\| `([2-5][0-9][0-9] [^`]+)` \\| ([^|\n]+) \\| ([^|\n]+) \\|$")

// listedReplies is the replies in the manual's tables, each with a meaning and
// what to do.
func listedReplies(t *testing.T) (replies []string) {
	t.Helper()
	page := read(t, filepath.Join(root, "docs/replies.md"))
	for _, m := range replyRow.FindAllStringSubmatch(page, -1) {
		replies = append(replies, m[1])
	}
	if rows := strings.Count(page, "\n| `"); rows != len(replies) || rows < 50 {
		t.Fatalf("docs/replies.md: %d of %d rows are a reply, its meaning, and what to do", len(replies), rows)
	}
	return replies
}

// What smtp.Replies returns is all that its package has.
func TestTheEnginesListOfRepliesIsWhole(t *testing.T) {
	t.Parallel()
	held := 0
	inList := make(map[string]bool)
	var finder replyFinder
	finder.named = make(map[string]string)
	for _, s := range sources(t) {
		if s.isTest() || s.folder() != "smtp" {
			continue
		}
		for _, decl := range s.file.Decls {
			finder.look(s, decl)
			if nameOf(decl) == "Replies" {
				givenNames(decl, func(name string) { inList["smtp "+name] = true })
			}
		}
	}
	for name, where := range finder.named {
		if held++; !inList[name] {
			t.Errorf("%s: %s is not in smtp.Replies", where, name)
		}
	}
	if held < 30 {
		t.Errorf("only %d replies were found", held)
	}
}
