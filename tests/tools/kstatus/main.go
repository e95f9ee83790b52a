// kstatus tells what Flux makes of objects: one JSON object a line in, one line with its status and message out.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func main() {
	objects := json.NewDecoder(os.Stdin)
	for {
		var object map[string]any
		err := objects.Decode(&object)
		if errors.Is(err, io.EOF) {
			return
		}
		var result *status.Result
		if err == nil {
			// Numbers come as floats, and generations are whole.
			result, err = status.Compute(&unstructured.Unstructured{Object: whole(object).(map[string]any)})
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "kstatus:", err)
			os.Exit(1)
		}
		fmt.Printf("%s\t%s\n", result.Status, result.Message)
	}
}

func whole(value any) any {
	switch value := value.(type) {
	case float64:
		return int64(value)
	case []any:
		for i := range value {
			value[i] = whole(value[i])
		}
	case map[string]any:
		for key := range value {
			value[key] = whole(value[key])
		}
	}
	return value
}
