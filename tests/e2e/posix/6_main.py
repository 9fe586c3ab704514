def main():
    top = sys.argv[1]
    os.mkdir(top)
    results = {}
    for name in sys.argv[2:] or CASES:
        os.umask(0o022)
        here = os.path.join(top, name)
        os.mkdir(here)
        os.chdir(here)
        log.clear()
        try:
            CASES[name]()
        except Exception as e:  # noqa: BLE001 - what came so far is compared, and this
            log.append(["the case broke off", f"{type(e).__name__} {e}".replace(top, "")])
            if "-v" in os.environ.get("POSIX_CASES", ""):
                raise
        results[name] = list(log)
    print(json.dumps(results, default=repr))


main()
