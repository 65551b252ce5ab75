package incoming

import (
	"reflect"
	"testing"

	"github.com/incoming-mx/incoming/telemetry"
)

// Each hook that is set is called, and its panic becomes a fact; one that is not
// set stays so, or the server would make what nobody asked for.
func TestAHookThatPanicsIsSurvivedAndTold(t *testing.T) {
	t.Parallel()
	fields := reflect.TypeFor[telemetry.Hooks]()
	for i := range fields.NumField() {
		field := fields.Field(i)
		var hooks telemetry.Hooks
		called := 0
		reflect.ValueOf(&hooks).Elem().Field(i).Set(reflect.MakeFunc(field.Type, func([]reflect.Value) []reflect.Value {
			called++
			panic("hook")
		}))
		var told []telemetry.Panic
		if field.Name != "Panic" {
			hooks.Panic = func(e telemetry.Panic) { told = append(told, e) }
		}
		safe := reflect.ValueOf(shield(hooks))
		for k := range fields.NumField() {
			if set := !safe.Field(k).IsNil(); set != (k == i || fields.Field(k).Name == "Panic" && hooks.Panic != nil) {
				t.Errorf("%s was set: %s is set: %v", field.Name, fields.Field(k).Name, set)
			}
		}
		if safe.Field(i).IsNil() {
			continue
		}
		safe.Field(i).Call([]reflect.Value{reflect.Zero(field.Type.In(0))})
		if called != 1 || field.Name != "Panic" && (len(told) != 1 || told[0].Value != "hook" || told[0].Where == "hook " || len(told[0].Stack) == 0) {
			t.Errorf("%s: called %d times, told %+v", field.Name, called, told)
		}
	}
}
