def write_report(results, out): return out
def publish(*a): pass
