"""What people do to treasury and operation: noted, frozen, closed, confirmed by a second one."""
