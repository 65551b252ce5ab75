package telemetry

import (
	"reflect"
	"testing"
)

func TestTeePassesEveryFactToEveryHook(t *testing.T) {
	t.Parallel()
	typ := reflect.TypeFor[Hooks]()
	calls := map[string]int{}
	counting := func() Hooks {
		var h Hooks
		for i := range typ.NumField() {
			f := typ.Field(i)
			reflect.ValueOf(&h).Elem().Field(i).Set(reflect.MakeFunc(f.Type, func([]reflect.Value) []reflect.Value {
				calls[f.Name]++
				return nil
			}))
		}
		return h
	}
	both := reflect.ValueOf(Tee(counting(), Hooks{}, counting()))
	for i := range typ.NumField() {
		f := typ.Field(i)
		both.Field(i).Call([]reflect.Value{reflect.Zero(f.Type.In(0))})
		if calls[f.Name] != 2 {
			t.Errorf("%s: %d calls, want 2", f.Name, calls[f.Name])
		}
	}
}

func TestNoHookIsNoCall(t *testing.T) {
	t.Parallel()
	none := reflect.ValueOf(Tee(Hooks{}, Hooks{}))
	for i := range none.NumField() {
		if !none.Field(i).IsNil() {
			t.Errorf("%s is set", none.Type().Field(i).Name)
		}
	}
	Emit(Hooks{}.Panic, Panic{}) // must not panic
}
