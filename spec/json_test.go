package spec

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"strconv"
	"testing"
	"time"
)

// fill sets every field to a value of its own that is not the zero value.
func fill(t *testing.T, v reflect.Value, n *int) {
	t.Helper()
	*n++
	switch v.Interface().(type) {
	case netip.Addr:
		v.Set(reflect.ValueOf(netip.AddrFrom4([4]byte{10, 0, 0, byte(*n)})))
		return
	case netip.Prefix:
		v.Set(reflect.ValueOf(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(*n)}), 32)))
		return
	case time.Time:
		v.Set(reflect.ValueOf(time.Unix(int64(*n), 5).UTC()))
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString("<word> & \u2028 " + strconv.Itoa(*n))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int32, reflect.Int64:
		v.SetInt(int64(*n))
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(uint64(*n))
	case reflect.Float64:
		v.SetFloat(float64(*n) + 0.1)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(t, v.Elem(), n)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			fill(t, v.Index(i), n)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		key, val := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(t, key, n)
		fill(t, val, n)
		v.SetMapIndex(key, val)
	case reflect.Struct:
		for i := range v.NumField() {
			if !v.Type().Field(i).IsExported() {
				t.Fatalf("%s.%s would be lost on disk", v.Type(), v.Type().Field(i).Name)
			}
			fill(t, v.Field(i), n)
		}
	default:
		t.Fatalf("a field of type %s", v.Type())
	}
}

// What a container was asked for and made from is kept as JSON and read for
// each restart: nothing of it may get lost or change.
func TestJSONKeepsAll(t *testing.T) {
	extremes := Workload{
		Resources: Resources{MemorySwap: new(int64(-1)), Memory: new(int64(1<<63 - 1)), PidsLimit: new(int64(0))},
		ReadOnly:  new(false), Init: new(false), Entrypoint: new(""), DetachKeys: new(""),
		Env: []EnvVar{{Name: "A"}, {Name: "B", Value: new("")}}, Publish: []Publish{{}}, Egress: Egress{Allow: []EgressRule{{}}},
		Restart: RestartPolicy{Name: RestartOnFailure, Max: 1<<31 - 1}, Health: Healthcheck{Interval: 1<<63 - 1},
		Secrets: []Secret{{ID: "a", Owned: true}},
	}
	filledWorkload, filledImage := new(Workload), new(Image)
	n := 0
	fill(t, reflect.ValueOf(filledWorkload).Elem(), &n)
	fill(t, reflect.ValueOf(filledImage).Elem(), &n)
	for _, v := range []any{filledWorkload, filledImage, new(Workload), new(Image), &extremes} {
		data, err := json.Marshal(v)
		must(t, err)
		back := reflect.New(reflect.TypeOf(v).Elem())
		must(t, json.Unmarshal(data, back.Interface()))
		if !reflect.DeepEqual(v, back.Interface()) {
			t.Errorf("%T: lost something:\n%+v\n%+v", v, v, back.Interface())
		}
	}
}
