package telemetry

import (
	"reflect"
	"testing"
)

// counting is hooks of which each counts how often it was called, by field name.
func counting(counts map[string]int) Hooks {
	var h Hooks
	v := reflect.ValueOf(&h).Elem()
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		v.Field(i).Set(reflect.MakeFunc(v.Field(i).Type(), func([]reflect.Value) []reflect.Value {
			counts[name]++
			return nil
		}))
	}
	return h
}

func TestTeeCallsEachHookOfEachField(t *testing.T) {
	t.Parallel()
	a, b := map[string]int{}, map[string]int{}
	both := reflect.ValueOf(Tee(counting(a), Hooks{}, counting(b)))
	for i := range both.NumField() {
		name := both.Type().Field(i).Name
		if both.Field(i).IsNil() {
			t.Errorf("Tee leaves out %s", name)
			continue
		}
		both.Field(i).Call([]reflect.Value{reflect.Zero(both.Field(i).Type().In(0))})
		if a[name] != 1 || b[name] != 1 || len(a) != i+1 || len(b) != i+1 {
			t.Errorf("%s: called %v and %v", name, a, b)
		}
	}
}

func TestTeeOfNothingIsSilent(t *testing.T) {
	t.Parallel()
	for _, hooks := range [][]Hooks{nil, {{}}, {{}, {}}} {
		v := reflect.ValueOf(Tee(hooks...))
		for i := range v.NumField() {
			if !v.Field(i).IsNil() {
				t.Errorf("%d hooks: %s is set", len(hooks), v.Type().Field(i).Name)
			}
		}
	}
}

func TestTeeKeepsTheOrder(t *testing.T) {
	t.Parallel()
	var order string
	say := func(s string) Hooks { return Hooks{Panic: func(p Panic) { order += s + p.Where }} }
	Emit(Tee(say("a"), say("b"), say("c")).Panic, Panic{Where: "."})
	if order != "a.b.c." {
		t.Errorf("order %s", order)
	}
}

func TestEmitWithoutAHookIsSilent(t *testing.T) {
	t.Parallel()
	Emit(Hooks{}.Panic, Panic{})
}
