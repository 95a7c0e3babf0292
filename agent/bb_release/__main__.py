from bb_release.cli import main

main()
