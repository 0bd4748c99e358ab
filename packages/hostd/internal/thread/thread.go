// Package thread keeps what changes a thread of the kernel, its namespaces above all, from whatever else runs here.
package thread

import "runtime"

// Alone runs act on a thread that ends with it, so that no other goroutine ever finds itself in a changed namespace.
func Alone(act func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // Never unlocked: the thread dies with the goroutine.
		done <- act()
	}()
	return <-done
}
